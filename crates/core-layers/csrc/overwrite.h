// A backward pass may write its gradient over what the forward pass saved where nobody can read that, so that one tensor serves
// for both.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/graph_task.h>

namespace cl {

// `holders` is how many handles of `saved` the caller knows of. True where there are no others, no view and no other saved
// tensor lies in its memory, and the graph is not kept for another pass: then nobody can read it after this one. Another pass
// all the same, after one that failed, is refused: the version of what was saved moves on.
inline bool takes_over(const at::Tensor& saved, size_t holders) {
  const bool is_free = !torch::autograd::get_current_graph_task_keep_graph() && saved.use_count() <= holders &&
                       saved.storage().use_count() == 1 && saved.is_contiguous();
  if (is_free) saved.unsafeGetTensorImpl()->bump_version();
  return is_free;
}

}  // namespace cl

// Whether a backward pass may write its gradient over what the forward pass saved, so that one tensor serves for both.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/graph_task.h>

namespace cl {

// `holders` is how many handles of `saved` the caller knows of. True where there are no others, no view and no other saved
// tensor lies in its memory, and the graph is not kept for another pass: then nobody can read it after this one.
inline bool may_overwrite(const at::Tensor& saved, size_t holders) {
  return !torch::autograd::get_current_graph_task_keep_graph() && saved.use_count() <= holders &&
         saved.storage().use_count() == 1 && saved.is_contiguous();
}

}  // namespace cl

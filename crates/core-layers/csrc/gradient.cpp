// Gives tensors that Rust computed a gradient that Rust computes: one autograd function for every kernel launched there.
#include "api.h"
#include "overwrite.h"
#include <ATen/core/Tensor.h>
#include <ATen/core/custom_class.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/custom_function.h>
#include <vector>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Writes gradients of the inputs, null where there is none, from what was saved and the gradients of the outputs, zeros
// where nobody read one. Returns 0, or 1 after cl_refuse was told why.
typedef int (*Backward)(void* state, const Tensor* const* saved, int saved_count, const Tensor* const* grads, int grad_count,
                        Tensor** inputs, int input_count);

struct Rule : torch::CustomClassHolder {
  void* state;
  Backward backward;
  void (*drop)(void*);
  Rule(void* state, Backward backward, void (*drop)(void*)) : state(state), backward(backward), drop(drop) {}
  ~Rule() override { drop(state); }
};

// What `forward` takes besides its inputs; no tensor in it counts as one.
struct Made {
  variable_list saved, outputs;
  c10::intrusive_ptr<Rule> rule;
};

struct Foreign : torch::autograd::Function<Foreign> {
  static variable_list forward(AutogradContext* ctx, at::TensorList inputs, Made* made) {
    ctx->save_for_backward(made->saved);
    ctx->saved_data["rule"] = c10::IValue::make_capsule(made->rule);
    ctx->saved_data["inputs"] = static_cast<int64_t>(inputs.size());
    return made->outputs;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CL_FIRST_DERIVATIVE("a kernel");
    const auto saved = ctx->get_saved_variables();
    const auto target = ctx->saved_data["rule"].toCapsule();
    const auto* rule = static_cast<const Rule*>(target.get());
    std::vector<const Tensor*> kept, given;
    for (const Tensor& x : saved) kept.push_back(&x);
    for (const Tensor& x : grads) given.push_back(&x);
    std::vector<Tensor*> found(static_cast<size_t>(ctx->saved_data["inputs"].toInt()), nullptr);
    const int status = rule->backward(rule->state, kept.data(), static_cast<int>(kept.size()), given.data(),
                                      static_cast<int>(given.size()), found.data(), static_cast<int>(found.size()));
    variable_list inputs;
    for (Tensor* x : found) {
      inputs.push_back(x == nullptr ? Tensor() : *x);
      delete x;
    }
    TORCH_CHECK(status == 0, cl::last_error());
    inputs.emplace_back();  // of `made`
    return inputs;
  }
};

variable_list list(const Tensor* const* tensors, int count) {
  variable_list all;
  for (int i = 0; i < count; i++) all.push_back(*tensors[i]);
  return all;
}

}  // namespace

extern "C" {

// Keeps a message for whoever asks after a failing call.
void cl_refuse(const char* message) { cl::last_error() = message; }

// Replaces `outputs` by tensors of a graph, whose gradients `backward` finds. `state` is dropped with the graph, or at once.
int cl_with_gradient(const Tensor* const* inputs, int input_count, const Tensor* const* saved, int saved_count, Tensor** outputs,
                     int output_count, void* state, Backward backward, void (*drop)(void*)) {
  CL_TRY(Made made; made.rule = c10::make_intrusive<Rule>(state, backward, drop); made.saved = list(saved, saved_count);
         made.outputs = list(outputs, output_count); const variable_list given = list(inputs, input_count);
         variable_list found = Foreign::apply(at::TensorList(given), &made);
         for (int i = 0; i < output_count; i++) outputs[i] = new Tensor(found[static_cast<size_t>(i)]);)
}

// Whether a rule may write a gradient over what was saved for it; see overwrite.h. The context, `saved` of the backward pass
// and the rule hold a handle each.
int cl_takes_over(const Tensor* saved, int* may) { CL_TRY(*may = cl::takes_over(*saved, 3)) }

// The stream that libtorch launches on, of CUDA device `index`.
int cl_current_stream(int index, void** stream) {
  CL_TRY(c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
         *stream = guard.getStream(c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index))).native_handle())
}

}  // extern "C"

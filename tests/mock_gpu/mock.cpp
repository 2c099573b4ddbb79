// A device of torch's kind PrivateUse1 whose memory is the CPU's and whose operations are the CPU's: see __init__.py.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/extension.h>

using namespace at;
using Sizes = c10::SymIntArrayRef;

constexpr auto KIND = c10::DeviceType::PrivateUse1;
constexpr auto KEY = c10::DispatchKey::PrivateUse1;

static c10::Device here() { return c10::Device(KIND, 0); }
static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, here()); }

// -- what is counted ---------------------------------------------------------------------------

static std::vector<std::string> steps; // what a GPU would be given to do
static int64_t waits = 0;              // values that the CPU would wait for
static thread_local bool inside = false;

static void step(const std::string& name) {
  if (!inside) steps.push_back(name);
}

static void wait() {
  if (!inside) waits++;
}

struct Inside { // what an operation does on the way is one step
  bool before = inside;
  Inside() { inside = true; }
  ~Inside() { inside = before; }
};

// -- the device: one, of which nothing need be known -------------------------------------------

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device) const override { return here(); }
  c10::Device getDevice() const override { return here(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* place = c10::alloc_cpu(bytes);
    return {place, place, &c10::free_cpu, here()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
};
static Memory memory;
REGISTER_ALLOCATOR(KIND, &memory);

struct Draws : CPUGeneratorImpl {
  Draws() : CPUGeneratorImpl(0) {
    device_ = here();
    key_set_ = c10::DispatchKeySet(KEY);
  }
};

struct Hooks : PrivateUse1HooksInterface {
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  bool isAvailable() const override { return true; }
  bool isBuilt() const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  Generator getNewGenerator(DeviceIndex) const override { return make_generator<Draws>(); }
  const Generator& getDefaultGenerator(DeviceIndex) const override {
    static auto drawn = make_generator<Draws>();
    return drawn;
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto place = memory.allocate(bytes);
    std::memcpy(place.get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(place));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
};

// -- tensors -----------------------------------------------------------------------------------

static Tensor on_cpu(const Tensor& given) { // on the same memory
  if (!given.defined() || given.device().type() != KIND) return given;
  auto seen = from_blob(given.data_ptr(), given.sizes(), given.strides(), given.options().device(kCPU).requires_grad(false));
  if (given.is_conj()) seen._set_conj(true);
  if (given.is_neg()) seen._set_neg(true);
  return seen;
}

static Tensor moved(const Tensor& given) { return given.defined() ? given.to(here()) : given; }

static Tensor made(Sizes size, std::optional<ScalarType> type, std::optional<Layout>, std::optional<Device>, std::optional<bool>,
                    std::optional<MemoryFormat> format) {
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &memory, c10::DispatchKeySet(KEY), c10::dtype_or_default(type), format);
}

static Tensor made_strided(Sizes size, Sizes stride, std::optional<ScalarType> type, std::optional<Layout>, std::optional<Device>,
                            std::optional<bool>) {
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &memory,
                                       c10::DispatchKeySet(KEY), c10::dtype_or_default(type));
}

static Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  if (from.device().type() == KIND && to.device().type() != KIND) wait();
  step("copy");
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

static Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

static Scalar read_one(const Tensor& one) {
  wait();
  return on_cpu(one).item();
}

// -- operations --------------------------------------------------------------------------------

static Tensor convolved(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, Sizes stride, Sizes padding,
                          Sizes dilation, bool transposed, Sizes output_padding, c10::SymInt groups) {
  const bool biased = bias && bias->defined();
  TORCH_CHECK(input.device() == weight.device() && (!biased || bias->device() == input.device()),
              "mock GPU: a convolution of tensors on two devices");
  step("convolution");
  Inside operation;
  const auto offset = biased ? std::optional<Tensor>(on_cpu(*bias)) : std::nullopt;
  return moved(convolution_symint(on_cpu(input), on_cpu(weight), offset, stride, padding, dilation, transposed, output_padding, groups));
}

static std::tuple<Tensor, Tensor, Tensor> convolved_back(const Tensor& slope, const Tensor& input, const Tensor& weight,
                                                               Sizes stride, Sizes padding, Sizes dilation, bool transposed,
                                                               Sizes output_padding, c10::SymInt groups, std::array<bool, 3> wanted) {
  step("convolution_backward");
  Inside operation;
  const auto found = convolution_backward_symint(on_cpu(slope), on_cpu(input), on_cpu(weight), Sizes({weight.size(0)}), stride, padding,
                                                 dilation, transposed, output_padding, groups, wanted);
  return {moved(std::get<0>(found)), moved(std::get<1>(found)), moved(std::get<2>(found))};
}

// Indices may lie on the CPU, and so may a single number; nothing else may.
static void check_devices(const std::string& name, c10::ArrayRef<c10::IValue> given) {
  static const std::set<std::string> indexing = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_",
                                                 "aten::_unsafe_index"};
  bool on_device = false, elsewhere = false;
  const auto look = [&](const Tensor& one) {
    if (!one.defined()) return;
    if (one.device().type() == KIND) on_device = true;
    else if (one.dim() > 0) elsewhere = true;
  };
  for (const auto& each : given) {
    if (each.isTensor()) look(each.toTensor());
    else if (indexing.count(name)) continue;
    else if (each.isTensorList()) for (const Tensor& one : each.toTensorVector()) look(one);
    else if (each.isOptionalTensorList()) for (const auto& one : each.toOptionalTensorVector()) if (one) look(*one);
  }
  TORCH_CHECK(!(on_device && elsewhere), "mock GPU: ", name, " of tensors on two devices");
}

static void on_the_cpu(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const auto& schema = operation.schema();
  check_devices(schema.name(), torch::jit::last(*stack, schema.arguments().size()));
  step(schema.name());
  Inside one;
  native::cpu_fallback(operation, stack);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", made);
  m.impl("empty_strided", made_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", read_one);
  m.impl("convolution_overrideable", convolved);
  m.impl("convolution_backward_overrideable", convolved_back);
  // attention by its plain products
  m.impl("_fused_sdp_choice", [](const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, double, bool,
                                 std::optional<double>, bool) -> int64_t { return 0; });
  // views are no steps
  m.impl("view", [](const Tensor& t, Sizes size) { return native::view(t, C10_AS_INTARRAYREF_SLOW(size)); });
  m.impl("_reshape_alias", [](const Tensor& t, Sizes size, Sizes stride) {
    return native::_reshape_alias(t, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
  });
  m.impl("as_strided", [](const Tensor& t, Sizes size, Sizes stride, std::optional<c10::SymInt> offset) {
    return native::as_strided_tensorimpl(t, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
                                         offset ? std::optional<int64_t>(offset->expect_int()) : std::nullopt);
  });
  m.impl("unfold", [](const Tensor& t, int64_t axis, int64_t size, int64_t stride) { return native::unfold(t, axis, size, stride); });
  m.impl("view_as_real", [](const Tensor& t) { return native::view_as_real(t); });
  m.impl("view_as_complex", [](const Tensor& t) { return native::view_as_complex(t); });
  m.impl("resize_", [](const Tensor& t, Sizes size, std::optional<MemoryFormat> format) -> const Tensor& {
    return native::resize_(t, C10_AS_INTARRAYREF_SLOW(size), format);
  });
  m.impl("set_.source_Tensor", [](Tensor& t, const Tensor& of) -> Tensor& { return native::set_tensor_(t, of); });
  m.impl("set_.source_Storage", [](Tensor& t, Storage of) -> Tensor& { return native::set_(t, of); });
  m.impl("set_.source_Storage_storage_offset", [](Tensor& t, Storage of, c10::SymInt offset, Sizes size, Sizes stride) -> Tensor& {
    return native::set_storage_cpu_(t, of, offset.expect_int(), C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
  });
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  RegisterPrivateUse1HooksInterface(new Hooks());
  m.def("counted", [] { // names of the steps, and how many waits, since it was asked last
    auto found = std::make_pair(steps, waits);
    steps.clear();
    waits = 0;
    return found;
  });
}

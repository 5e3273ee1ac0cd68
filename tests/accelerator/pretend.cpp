// A pretend accelerator: PrivateUse1 with two devices in malloc'ed memory, whose waits, launches and allocations are
// counted. The engine runs its nodes in device threads, as for CUDA. A copy to pinned memory is done only when an
// event that was recorded after it is found to have happened: whoever reads it before reads NaN. Kernels run at once.
#include <torch/library.h>
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_cpu_dispatch.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>

namespace {

constexpr auto TYPE = c10::DeviceType::PrivateUse1;
constexpr int DEVICES = 2;

// What is counted, and what a test can make happen.
std::atomic<int64_t> waits{0}, launches{0}, allocations{0}, bytes{0}, limit{INT64_MAX}, lag{0};
std::atomic<bool> failed{false}, hung{false}, capturing{false};
std::mutex mutex;
std::deque<std::string> launched;  // the names of the latest
thread_local bool inside = false;  // of an op, whose own copies and allocations on the CPU's side are not the device's

void require_alive() {
  const char* told = "CUDA error: device-side assert triggered\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1";
  if (failed) throw c10::AcceleratorError({__func__, __FILE__, __LINE__}, 710, told);
}

void note_launch(const std::string& name) {
  require_alive();
  if (inside) return;
  launches++;
  std::lock_guard<std::mutex> lock(mutex);
  launched.push_back(name);
  if (launched.size() > 10000) launched.pop_front();
}

void note_wait(const char* for_what) {
  if (inside) return;
  require_alive();
  TORCH_CHECK(!hung, "the pretend device hangs: ", for_what, " would wait for ever");
  waits++;
}

// ---- memory

thread_local int current_device = 0;
thread_local int64_t current_streams[DEVICES] = {0, 0};
std::set<std::pair<char*, char*>> pinned;  // where each begins and ends

struct Memory final : at::Allocator {
  static void release(void* context) {
    bytes -= *static_cast<int64_t*>(context);
    std::free(context);
  }
  at::DataPtr allocate(size_t size) override {
    c10::Device device(TYPE, static_cast<c10::DeviceIndex>(current_device));
    if (!size) return {nullptr, nullptr, &release, device};
    TORCH_CHECK_WITH(OutOfMemoryError, bytes + int64_t(size) <= limit, "CUDA out of memory. Tried to allocate ", size);
    allocations++;
    bytes += size;
    char* block = static_cast<char*>(std::malloc(size + 64));  // its size stands before it
    *reinterpret_cast<int64_t*>(block) = size;
    return {block + 64, block, &release, device};
  }
  void copy_data(void* to, const void* from, size_t size) const override { std::memcpy(to, from, size); }
};
Memory memory;

struct Pinned final : at::Allocator {
  static void release(void* block) {
    std::lock_guard<std::mutex> lock(mutex);
    auto found = pinned.lower_bound({static_cast<char*>(block), nullptr});
    if (found != pinned.end()) pinned.erase(found);
    std::free(block);
  }
  at::DataPtr allocate(size_t size) override {
    char* block = static_cast<char*>(std::malloc(size + 1));
    std::lock_guard<std::mutex> lock(mutex);
    pinned.insert({block, block + size});
    return {block, block, &release, c10::Device(c10::kCPU)};
  }
  void copy_data(void* to, const void* from, size_t size) const override { std::memcpy(to, from, size); }
};
Pinned pinned_memory;

bool is_pinned(const void* at) {
  std::lock_guard<std::mutex> lock(mutex);
  for (const auto& [begin, end] : pinned)
    if (begin <= at && at < end) return true;
  return false;
}

// ---- copies that are under way, streams and events

struct Transfer {
  at::Tensor from, to;
  int64_t ticket;
};
std::deque<Transfer> under_way;
int64_t tickets = 0;

void finish_transfers(int64_t ticket) {
  while (true) {
    Transfer next;
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (under_way.empty() || under_way.front().ticket > ticket) return;
      next = under_way.front();
      under_way.pop_front();
    }
    at::NoGradGuard no_grad;
    next.to.copy_(next.from);
  }
}

struct Event {
  int64_t ticket, unanswered;
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return TYPE; }
  c10::Device exchangeDevice(c10::Device device) const override {
    c10::Device before = getDevice();
    if (device.index() >= 0) current_device = device.index();
    return before;
  }
  c10::Device getDevice() const override { return c10::Device(TYPE, static_cast<c10::DeviceIndex>(current_device)); }
  void setDevice(c10::Device device) const override { exchangeDevice(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current_device = device.index(); }
  static c10::Device whole(c10::Device device) {
    return c10::Device(TYPE, device.index() < 0 ? static_cast<c10::DeviceIndex>(current_device) : device.index());
  }
  c10::Stream getStream(c10::Device device) const override {
    device = whole(device);
    return c10::Stream(c10::Stream::UNSAFE, device, current_streams[device.index()]);
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, whole(device));
  }
  c10::Stream getNewStream(c10::Device device, int) const override {
    static std::atomic<int64_t> streams{0};
    return c10::Stream(c10::Stream::UNSAFE, whole(device), ++streams);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override { return getNewStream(device, 0); }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    c10::Stream before = getStream(stream.device());
    current_streams[stream.device_index()] = stream.id();
    return before;
  }
  c10::DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {
    require_alive();
    std::lock_guard<std::mutex> lock(mutex);
    if (!*event) *event = new Event;
    *static_cast<Event*>(*event) = {++tickets, lag};
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void* event) const override {
    require_alive();
    if (!event) return true;
    Event* found = static_cast<Event*>(event);
    if (hung || found->unanswered-- > 0) return false;
    finish_transfers(found->ticket);
    return true;
  }
  void synchronizeEvent(void* event) const override {
    note_wait("an event");
    finish_transfers(static_cast<Event*>(event)->ticket);
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  bool queryStream(const c10::Stream&) const override { return !hung; }
  void synchronizeStream(const c10::Stream&) const override {
    note_wait("a stream");
    finish_transfers(INT64_MAX);
  }
  void synchronizeDevice(const c10::DeviceIndex) const override {
    note_wait("a device");
    finish_transfers(INT64_MAX);
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

const at::Generator& generator() {
  static at::Generator made = at::detail::createCPUGenerator(0);
  return made;
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isPinnedPtr(const void* at) const override { return is_pinned(at); }
  at::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  at::Device getDeviceFromPtr(void*) const override { return at::Device(TYPE, 0); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override {
    auto fresh = memory.allocate(size);
    size_t kept = std::min(size, storage.nbytes());
    if (kept) std::memcpy(fresh.get(), storage.data(), kept);
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(fresh));
    storage.unsafeGetStorageImpl()->set_nbytes(size);
  }
};
Hooks hooks;

// ---- ops

at::Tensor empty(
    c10::SymIntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(
      C10_AS_INTARRAYREF_SLOW(sizes), &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(
    c10::SymIntArrayRef sizes, c10::SymIntArrayRef strides, std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_strided_generic(
      C10_AS_INTARRAYREF_SLOW(sizes), C10_AS_INTARRAYREF_SLOW(strides), &memory,
      c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype));
}

// The same elements as a tensor of the CPU.
at::Tensor on_host(const at::Tensor& tensor) {
  if (!tensor.is_privateuseone()) return tensor;
  at::Tensor found = at::from_blob(
      tensor.unsafeGetTensorImpl()->mutable_data(), tensor.sizes(), tensor.strides(),
      tensor.options().device(at::kCPU));
  if (tensor.is_conj()) found = found.conj();
  return tensor.is_neg() ? found._neg_view() : found;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  note_launch("copy_");
  at::Tensor source = on_host(from), target = on_host(to);
  if (to.is_cpu() && from.is_privateuseone() && !inside) {
    if (non_blocking && is_pinned(to.const_data_ptr())) {
      if (target.is_floating_point()) target.fill_(NAN);
      at::Tensor now = source.clone();
      std::lock_guard<std::mutex> lock(mutex);
      under_way.push_back({now, target, ++tickets});
      return to;
    }
    note_wait("a copy to pageable memory");
    finish_transfers(INT64_MAX);
  }
  target.copy_(source);
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Tensor as_strided(
    const at::Tensor& self, c10::SymIntArrayRef sizes, c10::SymIntArrayRef strides, std::optional<c10::SymInt> offset) {
  return at::native::as_strided_tensorimpl(
      self, C10_AS_INTARRAYREF_SLOW(sizes), C10_AS_INTARRAYREF_SLOW(strides),
      offset ? std::optional<int64_t>(offset->expect_int()) : std::nullopt);
}

at::Tensor view(const at::Tensor& self, c10::SymIntArrayRef sizes) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(sizes));
}

at::Tensor reshape_alias(const at::Tensor& self, c10::SymIntArrayRef sizes, c10::SymIntArrayRef strides) {
  return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(sizes), C10_AS_INTARRAYREF_SLOW(strides));
}

at::Tensor& set_storage(
    at::Tensor& self, at::Storage storage, c10::SymInt offset, c10::SymIntArrayRef sizes, c10::SymIntArrayRef strides) {
  return at::cpu::set_(
      self, storage, offset.expect_int(), C10_AS_INTARRAYREF_SLOW(sizes), C10_AS_INTARRAYREF_SLOW(strides));
}

const at::Tensor& resize(const at::Tensor& self, c10::SymIntArrayRef sizes, std::optional<at::MemoryFormat>) {
  auto wanted = C10_AS_INTARRAYREF_SLOW(sizes);
  auto* impl = self.unsafeGetTensorImpl();
  int64_t count = impl->storage_offset();
  count += c10::multiply_integers(wanted);
  if (self.storage().nbytes() < size_t(count) * self.element_size())
    hooks.resizePrivateUse1Bytes(self.storage(), count * self.element_size());
  impl->set_sizes_contiguous(wanted);
  return self;
}

// The engine of convolutions leaves those of other backends to these two.
at::Tensor convolution(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups) {
  note_launch("convolution");
  inside = true;
  auto made = at::convolution(
      on_host(x), on_host(weight), bias && bias->defined() ? std::optional<at::Tensor>(on_host(*bias)) : std::nullopt,
      stride, padding, dilation, transposed, output_padding, groups);
  auto moved = made.to(x.device());
  inside = false;
  return moved;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> mask) {
  note_launch("convolution_backward");
  inside = true;
  auto [a, b, c] = at::convolution_backward(
      on_host(grad), on_host(x), on_host(weight), at::OptionalIntArrayRef(), stride, padding, dilation, transposed,
      output_padding, groups, mask);
  if (mask[2]) c = on_host(grad).sum(at::IntArrayRef{0, 2, 3});
  auto moved = [&](const at::Tensor& made) { return made.defined() ? made.to(grad.device()) : made; };
  std::tuple<at::Tensor, at::Tensor, at::Tensor> all{moved(a), moved(b), moved(c)};
  inside = false;
  return all;
}

// One kernel for all, as CUDA has it: torch's own for other backends takes them one by one.
std::vector<at::Tensor> foreach_norm(at::TensorList tensors, const at::Scalar& order, std::optional<at::ScalarType> dtype) {
  note_launch("_foreach_norm");
  inside = true;
  std::vector<at::Tensor> found;
  for (const at::Tensor& tensor : tensors)
    found.push_back(at::linalg_vector_norm(on_host(tensor), order, std::nullopt, false, dtype).to(tensor.device()));
  inside = false;
  return found;
}

// Ops whose result the CPU has to see, or whose size depends on it.
const std::set<std::string> WAITING = {
    "aten::_local_scalar_dense", "aten::nonzero",  "aten::masked_select", "aten::equal", "aten::_unique2",
    "aten::unique_consecutive",  "aten::bincount", "aten::is_nonzero",    "aten::isin",  "aten::repeat_interleave",
};

void give_generator(const c10::FunctionSchema& schema, torch::jit::Stack* stack) {
  size_t count = schema.arguments().size(), first = stack->size() - count;
  for (size_t i = 0; i < count; i++)
    if (schema.arguments()[i].name() == "generator" && (*stack)[first + i].isNone())
      (*stack)[first + i] = generator();
}

bool has_mask(const torch::jit::Stack& stack) {
  for (const auto& value : stack)
    if (value.isList())
      for (const c10::IValue& item : value.toListRef())
        if (item.isTensor() && item.toTensor().defined() && item.toTensor().scalar_type() == at::kBool) return true;
  return false;
}

void run(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const std::string& name = op.schema().name();
  note_launch(name.substr(6));
  if (WAITING.count(name) || (name == "aten::index" && has_mask(*stack))) note_wait(name.c_str());
  give_generator(op.schema(), stack);
  bool outer = inside;
  inside = true;
  try {
    at::native::cpu_fallback(op, stack);
  } catch (...) {
    inside = outer;
    throw;
  }
  inside = outer;
}

// ---- what tests ask

void reset() {
  failed = hung = capturing = false;
  limit = INT64_MAX;
  lag = waits = launches = allocations = 0;
  std::deque<Transfer> dropped;  // what they hold is released without the lock, which that takes
  std::lock_guard<std::mutex> lock(mutex);
  launched.clear();
  under_way.swap(dropped);
}

std::vector<int64_t> counts() { return {waits, launches, allocations, bytes}; }

std::vector<std::string> names() {
  std::lock_guard<std::mutex> lock(mutex);
  return {launched.begin(), launched.end()};
}

void set(const std::string& what, int64_t value) {
  if (what == "failed") failed = value;
  if (what == "hung") hung = value;
  if (what == "capturing") capturing = value;
  if (what == "limit") limit = value < 0 ? INT64_MAX : bytes + value;
  if (what == "lag") lag = value;
}

at::Tensor rng_state() { return generator().get_state(); }
void set_rng_state(const at::Tensor& state) {
  at::Generator made = generator();
  made.set_state(state);
}
void seed(int64_t value) {
  at::Generator made = generator();
  made.set_current_seed(value);
}
void start() {
  c10::SetAllocator(TYPE, &memory);
  at::RegisterPrivateUse1HooksInterface(&hooks);
}

}  // namespace

// No op, which modes of the script would see.
extern "C" int is_capturing() { return capturing; }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("resize_", resize);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("unfold", at::native::unfold);
  m.impl("view_as_real", at::native::view_as_real);
  m.impl("view_as_complex", at::native::view_as_complex);
  m.impl("_foreach_norm.Scalar", foreach_norm);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run>()); }
TORCH_LIBRARY(pretend, m) {
  m.def("start() -> ()", start);
  m.def("reset() -> ()", reset);
  m.def("counts() -> int[]", counts);
  m.def("names() -> str[]", names);
  m.def("set(str what, int value) -> ()", set);
  m.def("note_launch(str name) -> ()", note_launch);
  m.def("rng_state() -> Tensor", rng_state);
  m.def("set_rng_state(Tensor state) -> ()", set_rng_state);
  m.def("seed(int value) -> ()", seed);
}
// A copy resolves them itself: to do so before, torch would copy.
TORCH_LIBRARY_IMPL(aten, Negative, m) { m.impl("_copy_from", torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, Conjugate, m) { m.impl("_copy_from", torch::CppFunction::makeFallthrough()); }

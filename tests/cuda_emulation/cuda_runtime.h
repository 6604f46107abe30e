// CUDA on a CPU, as much of it as csrc/*.cu use: a thread for each CUDA thread, one block after the other. What a GPU
// leaves open is taken strictly: shared memory starts out poisoned, a thread may not return while its block waits for it,
// and a shuffle orders nothing but its values, so that ThreadSanitizer sees a missing __syncthreads().
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __shared__ static __attribute__((section("emulated_shared")))

// The linker's names for where that section begins and ends.
extern "C" char __start_emulated_shared[], __stop_emulated_shared[];

#if defined(__SANITIZE_THREAD__)
extern "C" void AnnotateIgnoreSyncBegin(const char* file, int line);
extern "C" void AnnotateIgnoreSyncEnd(const char* file, int line);
#else
inline void AnnotateIgnoreSyncBegin(const char*, int) {}
inline void AnnotateIgnoreSyncEnd(const char*, int) {}
#endif

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

typedef void* cudaStream_t;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue, cudaErrorInvalidConfiguration };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

namespace emulated {

constexpr unsigned kWarp = 32;
constexpr size_t kSharedByDefault = 48u << 10, kSharedAtMost = 99u << 10;  // an RTX 4090's and 5090's

inline cudaError_t last_error = cudaSuccess;
inline size_t shared_allowed = kSharedByDefault;

[[noreturn]] inline void die(const char* what) {
  std::fprintf(stderr, "emulated CUDA: %s\n", what);
  std::abort();
}

// Its counters are atomic though a mutex guards them: where ThreadSanitizer is told to see no order in a barrier, it sees
// none in the mutex.
class Barrier {
 public:
  void expect(unsigned threads) {
    set(expected_, threads), set(arrived_, 0), set(gone_, 0);
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (get(gone_)) die("a thread waits for one that has returned");
    const unsigned turn = get(turn_), arrived = get(arrived_) + 1;
    if (arrived == get(expected_)) {
      set(arrived_, 0), set(turn_, turn + 1);
      all_here_.notify_all();
      return;
    }
    set(arrived_, arrived);
    all_here_.wait(lock, [&] { return get(turn_) != turn; });
  }

  void leave() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (get(arrived_)) die("a thread returned while others wait for it");
    set(gone_, get(gone_) + 1);
  }

 private:
  using Counter = std::atomic<unsigned>;
  static unsigned get(const Counter& counter) { return counter.load(std::memory_order_relaxed); }
  static void set(Counter& counter, unsigned value) { counter.store(value, std::memory_order_relaxed); }

  std::mutex mutex_;
  std::condition_variable all_here_;
  Counter expected_{0}, arrived_{0}, turn_{0}, gone_{0};
};

struct Warp {
  Barrier barrier;
  std::atomic<uint32_t> slot[kWarp];
};

// The block that runs.
struct Block {
  Barrier barrier;
  std::vector<Warp> warps;
  std::unique_ptr<char[]> dynamic_shared;
};

inline Block* block;
inline thread_local unsigned linear_thread;

template <class T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(block->dynamic_shared.get());
}

// The value of the lane that `from_lane` names for this one, or its own where there is no such lane.
template <class T, class FromLane>
T shuffle(unsigned mask, T value, FromLane from_lane) {
  static_assert(sizeof(T) == sizeof(uint32_t));
  if (mask != 0xffffffffu) die("only whole warps are emulated");
  Warp& warp = block->warps[linear_thread / kWarp];
  const unsigned lane = linear_thread % kWarp, from = from_lane(lane);
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
  warp.slot[lane].store(bits, std::memory_order_relaxed);
  warp.barrier.wait();
  if (from < kWarp) bits = warp.slot[from].load(std::memory_order_relaxed);
  warp.barrier.wait();
  AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

}  // namespace emulated

inline thread_local dim3 threadIdx, blockIdx;

inline void __syncthreads() { emulated::block->barrier.wait(); }

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned step) {
  return emulated::shuffle(mask, value, [=](unsigned lane) { return lane - step; });  // wraps where there is none
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned step) {
  return emulated::shuffle(mask, value, [=](unsigned lane) { return lane + step; });
}

inline int __reduce_max_sync(unsigned mask, int value) {
  for (unsigned step = 16; step > 0; step /= 2) {
    const int other = emulated::shuffle(mask, value, [=](unsigned lane) { return lane ^ step; });
    value = other > value ? other : value;
  }
  return value;
}

inline uint32_t atomicAdd(uint32_t* address, uint32_t value) { return __atomic_fetch_add(address, value, __ATOMIC_RELAXED); }

inline cudaError_t cudaGetLastError() {
  const cudaError_t error = emulated::last_error;
  emulated::last_error = cudaSuccess;
  return error;
}

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidConfiguration ? "invalid configuration argument" : "invalid argument";
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int bytes) {
  if (static_cast<size_t>(bytes) > emulated::kSharedAtMost) return emulated::last_error = cudaErrorInvalidValue;
  emulated::shared_allowed = bytes;
  return cudaSuccess;
}

namespace emulated {

// kernel<<<grid, threads, shared, stream>>>(args), in the stream's order because it is done when this returns.
template <class Args>
void launch(void (*kernel)(Args), dim3 grid, dim3 threads, size_t shared, cudaStream_t, const std::decay_t<Args>& args) {
  const unsigned count = threads.x * threads.y * threads.z;
  const size_t fixed = __stop_emulated_shared - __start_emulated_shared;  // of all kernels: a little strict
  const bool fits = shared + fixed <= kSharedByDefault || shared <= shared_allowed;
  if (grid.x == 0 || grid.y != 1 || grid.z != 1 || count == 0 || count > 1024 || count % kWarp != 0 || !fits) {
    last_error = cudaErrorInvalidConfiguration;
    return;
  }
  Block running;
  running.warps = std::vector<Warp>(count / kWarp);
  block = &running;
  Barrier between;
  between.expect(count);
  std::vector<std::thread> pool;
  for (unsigned thread = 0; thread < count; ++thread) {
    pool.emplace_back([&, thread] {
      linear_thread = thread;
      threadIdx = dim3(thread % threads.x, thread / threads.x % threads.y, thread / threads.x / threads.y);
      for (unsigned b = 0; b < grid.x; ++b) {
        if (thread == 0) {
          running.barrier.expect(count);
          for (Warp& warp : running.warps) warp.barrier.expect(kWarp);
          running.dynamic_shared.reset(new char[shared]);
          std::memset(running.dynamic_shared.get(), 0xcd, shared);
          std::memset(__start_emulated_shared, 0xcd, fixed);
        }
        between.wait();
        blockIdx = dim3(b);
        kernel(args);
        running.warps[thread / kWarp].barrier.leave();
        running.barrier.leave();
        between.wait();
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
}

}  // namespace emulated

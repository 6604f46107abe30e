// Large outputs: their pages, how to store to them, and asking for inputs ahead.
#pragma once

#include <cstring>

#include "common.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace fv {

// An output beyond this size is out of the cache before it is read again.
constexpr size_t kLargeOutput = size_t{4} << 20;

// Readies an output that is about to be written whole, and returns whether its stores should bypass the cache.
//
// A large output gets 2 MiB pages: a 58 MB gradient otherwise takes 14,000 page faults of 4 KiB, several times as long as
// computing it. Stores that bypass the cache save reading what is overwritten, a third of the traffic, but only where
// memory is in use already. Above 32 MB malloc maps new memory every time. The system clears a new page when it is first
// touched, which leaves it in cache, and there ordinary stores are faster. The page in the middle stands for all. Both
// are matters of speed only: a refusal or a wrong guess changes no result.
static inline bool prepare_output(void* address, size_t bytes) {
  if (bytes < kLargeOutput) return false;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHuge = uintptr_t{2} << 20;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(address);
  const uintptr_t first = (begin + kHuge - 1) & ~(kHuge - 1), last = (begin + bytes) & ~(kHuge - 1);
  madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  unsigned char resident = 1;
  mincore(reinterpret_cast<void*>((begin + bytes / 2) & ~(page - 1)), page, &resident);
  return resident & 1;
#else
  (void)address;
  return true;
#endif
}

// The widest store that bypasses the cache. Any width is gathered into whole lines, but wide ones take fewer of the
// places where stores wait for memory, and while there are some left the next row is computed.
#if defined(__AVX512F__)
typedef __m512i StreamWord;
static inline void stream_word(void* to, StreamWord word) { _mm512_stream_si512(static_cast<__m512i*>(to), word); }
#elif defined(__AVX__)
typedef __m256i StreamWord;
static inline void stream_word(void* to, StreamWord word) { _mm256_stream_si256(static_cast<__m256i*>(to), word); }
#elif defined(__SSE2__)
typedef __m128i StreamWord;
static inline void stream_word(void* to, StreamWord word) { _mm_stream_si128(static_cast<__m128i*>(to), word); }
#else
typedef uint64_t StreamWord;
static inline void stream_word(void* to, StreamWord word) { std::memcpy(to, &word, sizeof word); }
#endif

// Bytes of a row that stream_word can write, from its start.
static inline int64_t streamable(const void* to, int64_t bytes) {
  constexpr int64_t kWord = sizeof(StreamWord);
  return reinterpret_cast<uintptr_t>(to) % kWord == 0 ? bytes / kWord * kWord : 0;
}

// Copies a row, or zeroes it, past the cache as far as its address allows. Such stores are weakly ordered: each thread
// calls store_fence once after its last.
static inline void stream_copy(void* to, const void* from, int64_t bytes) {
  char* out = static_cast<char*>(to);
  const char* in = static_cast<const char*>(from);
  const int64_t streamed = streamable(to, bytes);
  for (int64_t i = 0; i < streamed; i += sizeof(StreamWord)) {
    StreamWord word;
    std::memcpy(&word, in + i, sizeof word);
    stream_word(out + i, word);
  }
  std::memcpy(out + streamed, in + streamed, bytes - streamed);
}

static inline void stream_zero(void* to, int64_t bytes) {
  char* out = static_cast<char*>(to);
  const int64_t streamed = streamable(to, bytes);
  for (int64_t i = 0; i < streamed; i += sizeof(StreamWord)) stream_word(out + i, StreamWord{});
  std::memset(out + streamed, 0, bytes - streamed);
}

static inline void store_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Asks for a row that is read soon, so that memory works while another row is computed. The hardware's own prefetchers
// stop at a page's end and know no index.
static inline void prefetch_row(const void* row, int64_t bytes) {
  constexpr int64_t kLine = 64;
  const char* at = static_cast<const char*>(row);
  for (int64_t i = 0; i < bytes; i += kLine) __builtin_prefetch(at + i, 0, 2);
}

}  // namespace fv

// Sharing rows among threads.

#ifndef CHARJAX_PARALLEL_H_
#define CHARJAX_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "xla/ffi/api/ffi.h"

namespace charjax {

namespace ffi = xla::ffi;

// Calls work(begin, end) on shares of the rows, one a thread. The caller takes what no
// other thread has begun, so it never waits for one that is held up elsewhere.
template <typename F>
void InParallel(ffi::ThreadPool& pool, int64_t rows, const F& work) {
  struct Shared {
    std::atomic<int64_t> next{0};
    int64_t done = 0;
    std::mutex mutex;
    std::condition_variable all_done;
  };
  const int64_t shares =
      std::max<int64_t>(1, std::min<int64_t>(pool.num_threads(), rows));
  auto shared = std::make_shared<Shared>();
  auto take = [shared, shares, rows, &work] {
    for (int64_t i; (i = shared->next.fetch_add(1)) < shares;) {
      work(rows * i / shares, rows * (i + 1) / shares);
      std::lock_guard<std::mutex> lock(shared->mutex);
      if (++shared->done == shares) shared->all_done.notify_all();
    }
  };
  for (int64_t i = 1; i < shares; ++i) pool.Schedule(decltype(take)(take));
  take();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all_done.wait(lock, [&] { return shared->done == shares; });
}

// Calls f(first row, count) for blocks of at most `most` rows, as equal as can be: a
// small one would leave the pipelines half empty.
template <typename F>
inline void ForBlocks(int64_t begin, int64_t end, int64_t most, const F& f) {
  const int64_t rows = end - begin;
  if (rows <= most) return f(begin, rows);  // without a division, which takes long
  const int64_t blocks = (rows + most - 1) / most;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t row = rows * i / blocks;
    f(begin + row, rows * (i + 1) / blocks - row);
  }
}

}  // namespace charjax

#endif  // CHARJAX_PARALLEL_H_

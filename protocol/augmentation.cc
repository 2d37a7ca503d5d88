// Carries an epoch's plan out for a batch: crops, subtracts the mean image, reflects, shifts each colour (section 4.1).
//
// Two passes over a row of a crop: grey levels less the mean as one run of 3 * crop values, which stays in cache, then
// its three colours apart. Each is vectorized; both in one would not be.
#include <cstdint>
#include <vector>

namespace {

// The row (crop, 3) is read from `first` on by `step` pixels; the colours of `out` are `map` values apart.
template <int step>
void spread(const float* first, const float* shift, int64_t crop, int64_t map, float* out) {
  const float red = shift[0], green = shift[1], blue = shift[2];
  for (int64_t x = 0; x < crop; ++x) {
    out[x] = first[3 * step * x] + red;
    out[map + x] = first[3 * step * x + 1] + green;
    out[2 * map + x] = first[3 * step * x + 2] + blue;
  }
}

}  // namespace

// `images` (count, edge, edge, 3), `mean` (edge, edge, 3); `rows`, `columns`, `flips` (count,), `shifts` (count, 3);
// `batch` (taken, 3, crop, crop), of the images `samples` (taken,). False, and nothing more is written, at the first
// sample or crop that is not there.
extern "C" bool augment(const uint8_t* images, const float* mean, const int64_t* rows, const int64_t* columns,
                        const bool* flips, const float* shifts, int64_t count, int64_t edge, const int64_t* samples,
                        int64_t taken, int64_t crop, float* batch) {
  const int64_t map = crop * crop, slack = edge - crop;
  std::vector<float> run(3 * crop);
  for (int64_t place = 0; place < taken; ++place) {
    const int64_t sample = samples[place];
    if (sample < 0 || sample >= count) return false;
    const int64_t row = rows[sample], column = columns[sample];
    if (row < 0 || row > slack || column < 0 || column > slack) return false;
    for (int64_t y = 0; y < crop; ++y) {
      const int64_t first = 3 * ((row + y) * edge + column);
      const uint8_t* levels = images + 3 * edge * edge * sample + first;
      for (int64_t x = 0; x < 3 * crop; ++x) run[x] = levels[x] - mean[first + x];
      float* out = batch + 3 * map * place + crop * y;
      if (flips[sample]) {
        spread<-1>(&run[3 * (crop - 1)], shifts + 3 * sample, crop, map, out);
      } else {
        spread<1>(&run[0], shifts + 3 * sample, crop, map, out);
      }
    }
  }
  return true;
}

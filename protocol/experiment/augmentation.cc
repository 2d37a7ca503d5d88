// Carries an epoch's plan out for a batch: crops, subtracts the mean image, reflects, shifts each colour (section 4.1),
// and scales the whole.
//
// Two passes over a row of a crop, each vectorized, as both in one would not be: grey levels less the mean as one run of
// 3 * crop values, which stays in cache, then its three colours apart.
#include <cstdint>
#include <vector>

namespace {

// The colours of `row` (crop, 3) -> `out`, `map` values apart.
template <bool reflected>
void spread(const float* row, const float* shift, float scale, int64_t crop, int64_t map, float* out) {
  const float red = shift[0], green = shift[1], blue = shift[2];
  for (int64_t x = 0; x < crop; ++x) {
    const int64_t place = reflected ? crop - 1 - x : x;
    out[place] = (row[3 * x] + red) * scale;
    out[map + place] = (row[3 * x + 1] + green) * scale;
    out[2 * map + place] = (row[3 * x + 2] + blue) * scale;
  }
}

}  // namespace

// `images` (count, edge, edge, 3); `mean`, `mirrored` (mean_edge, mean_edge, 3), taken off crops that stay as they are and
// off those that are reflected: at the crop's place, or whole where they are no larger than it. `rows`, `columns`, `flips`
// (count,), `shifts` (count, 3); `batch` (taken, 3, crop, crop), of the images `samples` (taken,). The caller sees to it
// that all of them are there.
extern "C" void augment(const uint8_t* images, int64_t edge, const float* mean, const float* mirrored, int64_t mean_edge,
                        const int64_t* rows, const int64_t* columns, const bool* flips, const float* shifts,
                        const int64_t* samples, int64_t taken, int64_t crop, float scale, float* batch) {
  const int64_t map = crop * crop;
  const bool whole = mean_edge != edge;
  std::vector<float> run(3 * crop);
  for (int64_t place = 0; place < taken; ++place) {
    const int64_t sample = samples[place];
    const float* shift = shifts + 3 * sample;
    const float* off = flips[sample] ? mirrored : mean;
    for (int64_t y = 0; y < crop; ++y) {
      const int64_t first = 3 * ((rows[sample] + y) * edge + columns[sample]);
      const uint8_t* levels = images + 3 * edge * edge * sample + first;
      const float* less = off + (whole ? 3 * crop * y : first);
      for (int64_t x = 0; x < 3 * crop; ++x) run[x] = levels[x] - less[x];
      float* out = batch + 3 * map * place + crop * y;
      if (flips[sample]) {
        spread<true>(run.data(), shift, scale, crop, map, out);
      } else {
        spread<false>(run.data(), shift, scale, crop, map, out);
      }
    }
  }
}

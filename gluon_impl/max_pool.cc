// Overlapping max pooling (paper, section 3.4) as an MXNet operator, forward and backward, float32 and float64.
//
// oneDNN pools quickly only what lies in its own layout, and on processors without AVX-512 falls back to a reference
// kernel for plain maps, which is what the response norm before it puts out. What a convolution puts out, as before
// pool5, is put into plain maps first: little, beside the rest. Here a thread takes whole maps:
//
//     rows of the window ---> greatest of each pixel's column ---> greatest of each window
//                             (contiguous, vectorized)             (from cache)
//
// A tie's gradient goes to the first of the window, row by row, as oneDNN's does; that of what is not a number, which
// equals nothing, to the window's first place.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "operators.h"

namespace {

struct Pool {
  int64_t window, stride;

  explicit Pool(const Attributes& attributes)
      : window(std::stoll(attributes.at("window"))), stride(std::stoll(attributes.at("stride"))) {
    if (window < 1 || stride < 1) throw std::invalid_argument("window and stride begin at 1");
  }

  int64_t out(int64_t size) const { return (size - window) / stride + 1; }
};

// A pair's greater value; not a number wins, so that a network that diverges is seen to.
template <typename T>
inline T greater(T a, T b) {
  return a >= b || a != a ? a : b;
}

// One map: `x` (rows, columns) -> `y`; `tallest`: room for a row.
template <typename T>
void forward(const T* x, T* y, int64_t rows, int64_t columns, const Pool& pool, T* __restrict tallest) {
  for (int64_t r = 0; r < pool.out(rows); ++r) {
    const T* top = x + r * pool.stride * columns;
    std::copy(top, top + columns, tallest);
    for (int64_t down = 1; down < pool.window; ++down)
      for (int64_t c = 0; c < columns; ++c) tallest[c] = greater(tallest[c], top[down * columns + c]);
    // In place: after n rounds each has the greatest of itself and the n to its right.
    for (int64_t along = 1; along < pool.window; ++along)
      for (int64_t c = 0; c + along < columns; ++c) tallest[c] = greater(tallest[c], tallest[c + 1]);
    for (int64_t c = 0; c < pool.out(columns); ++c) *y++ = tallest[c * pool.stride];
  }
}

// One map as the paper pools, each window's nine values at once: the gradient `g` by `y` -> `dx`.
template <typename T, typename Place>
void backward_by_three(const T* __restrict g, const T* __restrict x, const T* __restrict y, T* __restrict dx,
                       int64_t rows, int64_t columns, const Pool& pool, Place* __restrict first) {
  const int64_t across = pool.out(columns);
  const Place wide = Place(columns);
  std::fill(dx, dx + rows * columns, T(0));
  for (int64_t r = 0; r < pool.out(rows); ++r, g += across, y += across) {
    const T *a = x + 2 * r * columns, *b = a + columns, *c = b + columns;
    for (int64_t p = 0; p < across; ++p) {
      const int64_t at = 2 * p;
      const T top = y[p];
      // From the window's last place to its first.
      Place place = 0;
      place = c[at + 2] == top ? 2 * wide + 2 : place;
      place = c[at + 1] == top ? 2 * wide + 1 : place;
      place = c[at] == top ? 2 * wide : place;
      place = b[at + 2] == top ? wide + 2 : place;
      place = b[at + 1] == top ? wide + 1 : place;
      place = b[at] == top ? wide : place;
      place = a[at + 2] == top ? Place(2) : place;
      place = a[at + 1] == top ? Place(1) : place;
      place = a[at] == top ? Place(0) : place;
      first[p] = place;
    }
    T* into = dx + 2 * r * columns;
    for (int64_t p = 0; p < across; ++p) into[2 * p + first[p]] += g[p];
  }
}

// One map: the gradient `g` by `y` -> `dx`; `first`: room for a row. `STRIDE`: the pool's, where the compiler knows it.
template <int64_t STRIDE, typename T, typename Place>
void backward(const T* g, const T* x, const T* y, T* dx, int64_t rows, int64_t columns, const Pool& pool,
              Place* __restrict first) {
  const int64_t stride = STRIDE ? STRIDE : pool.stride, across = pool.out(columns);
  std::fill(dx, dx + rows * columns, T(0));
  for (int64_t r = 0; r < pool.out(rows); ++r, g += across, y += across) {
    const int64_t corner = r * stride * columns;
    std::fill(first, first + across, Place(0));
    // From the window's last place to its first, each for a row of windows at once.
    for (int64_t down = pool.window - 1; down >= 0; --down)
      for (int64_t along = pool.window - 1; along >= 0; --along) {
        const Place place = Place(down * columns + along);
        const T* at = x + corner + place;
        for (int64_t c = 0; c < across; ++c) first[c] = at[c * stride] == y[c] ? place : first[c];
      }
    for (int64_t c = 0; c < across; ++c) dx[corner + c * stride + first[c]] += g[c];
  }
}

struct Forward {
  template <typename T>
  static void run(const Attributes& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs) {
    const Pool pool(attributes);
    const std::vector<int64_t>&from = inputs->at(0).shape, &to = outputs->at(0).shape;
    const T* x = inputs->at(0).data<T>();
    T* y = outputs->at(0).data<T>();
#pragma omp parallel for schedule(static)
    for (int64_t map = 0; map < from[0] * from[1]; ++map) {
      std::vector<T> tallest(from[3]);
      forward(x + map * from[2] * from[3], y + map * to[2] * to[3], from[2], from[3], pool, tallest.data());
    }
  }
};

// MXNet hands over the gradient of the output, then the input, then the output.
struct Backward {
  template <typename T>
  static void run(const Attributes& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs) {
    const Pool pool(attributes);
    // Not the inputs' shapes: MXNet moves those of arrays that it puts into plain layout.
    const std::vector<int64_t>&from = outputs->at(0).shape, to = {from[0], from[1], pool.out(from[2]), pool.out(from[3])};
    const T *g = inputs->at(0).data<T>(), *x = inputs->at(1).data<T>(), *y = inputs->at(2).data<T>();
    T* dx = outputs->at(0).data<T>();
    using Place = typename std::conditional<sizeof(T) == 4, int32_t, int64_t>::type;  // as wide, to be vectorized
    auto pass = pool.stride == 2 ? backward<2, T, Place> : backward<0, T, Place>;
    if (pool.window == 3 && pool.stride == 2) pass = backward_by_three<T, Place>;
#pragma omp parallel for schedule(static)
    for (int64_t map = 0; map < from[0] * from[1]; ++map) {
      const int64_t in = map * from[2] * from[3], out = map * to[2] * to[3];
      std::vector<Place> first(to[3]);
      pass(g + out, x + in, y + out, dx + in, from[2], from[3], pool, first.data());
    }
  }
};

MXReturnValue infer_shape(const Attributes& attributes, std::vector<std::vector<unsigned int>>* inputs,
                          std::vector<std::vector<unsigned int>>* outputs) {
  const Pool pool(attributes);
  auto shape = inputs->at(0);
  if (shape.size() != 4) {
    MX_ERROR_MSG << "max_pool pools (batch, maps, rows, columns)";
    return MX_FAIL;
  }
  for (size_t axis : {2, 3}) {
    if (shape[axis] < pool.window) {
      MX_ERROR_MSG << "max_pool's window is larger than the maps";
      return MX_FAIL;
    }
    shape[axis] = pool.out(shape[axis]);
  }
  outputs->at(0) = shape;
  return MX_SUCCESS;
}

}  // namespace

REGISTER_OP(max_pool)
    .setForward(by_type<Forward>, "cpu")
    .setBackward(by_type<Backward>, "cpu")
    .setParseAttrs(one_to_one<Pool>)
    .setInferType(floats_only)
    .setInferShape(infer_shape);

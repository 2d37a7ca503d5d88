// The response norm (paper, section 3.3) as operators of torch, forward and backward: float32, float64, bfloat16.
//
//     b_i = a_i * d_i^-beta,  d_i = k + alpha * sum of a_j^2 over the maps j within size/2 of i, in i's group of maps
//
// The maps of one place lie next to each other in memory (channels last). A row is those of one group at one place.
// A few rows at a time are read once, and what is computed on the way, d above all, stays in cache and is not kept for
// the backward pass. There they lie apart by zeros, so that a sum over neighbours never leaves its row, and every loop
// runs through all of them, however few a group's maps are:
//
//     x        [ row 0: map 0 map 1 ... | row 1: ... ]      rows = images x rows x columns x groups
//     a        [ row 0 | 0 0 | row 1 | 0 0 | ... ]
//
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

constexpr int64_t GRAIN = 256;  // rows: fewer are not worth another thread
constexpr int64_t BLOCK = 256;  // values at a time: six arrays, and what is read and written, fit the first cache

struct Norm {
  int64_t maps, reach;  // maps of a group
  double alpha, beta, k;
};

// Room for the intermediate values of some rows, at most `most`, each `stride` after the one before.
template <typename A>
struct Rows {
  explicit Rows(const Norm& norm)
      : norm(norm),
        stride(norm.maps + norm.reach),
        most(std::max<int64_t>(1, BLOCK / stride)),
        a(most * stride),
        g(most * stride),
        scale(most * stride),
        d(most * stride),
        sum(most * stride),
        padded(norm.reach + most * stride) {}

  // To `to` what `from` holds without gaps.
  template <typename T>
  void spread(const T* from, A* to, int64_t rows) const {
    for (int64_t row = 0; row < rows; ++row, from += norm.maps, to += stride)
      for (int64_t i = 0; i < norm.maps; ++i) to[i] = static_cast<A>(from[i]);
  }

  // To `to`, without gaps, what `value` gives for each place of these arrays.
  template <typename T, typename Value>
  void gather(T* to, int64_t rows, Value value) const {
    for (int64_t at = 0; at < rows * stride; at += stride, to += norm.maps)
      for (int64_t i = 0; i < norm.maps; ++i) to[i] = static_cast<T>(value(at + i));
  }

  // What lies between the rows is 0 again: what was computed there is no number beside a place that is none.
  void clear_gaps(A* to, int64_t rows) const {
    for (int64_t row = 0; row < rows; ++row) std::fill_n(to + row * stride + norm.maps, norm.reach, A(0));
  }

  // sum_i = what lies in `padded` within reach of i; there i itself lies at i + reach.
  void add_neighbours(int64_t length) {
    const A* p = padded.data();
    std::copy(p, p + length, sum.data());
    for (int64_t j = 1; j <= 2 * norm.reach; ++j)
      for (int64_t i = 0; i < length; ++i) sum[i] += p[i + j];
  }

  // a, d and scale = d^-beta of the rows that `x` points at. The paper's beta of 3/4 needs two roots and no power.
  template <typename T>
  void read(const T* x, int64_t rows) {
    const int64_t length = rows * stride - norm.reach;
    A* middle = padded.data() + norm.reach;
    spread(x, a.data(), rows);
    for (int64_t i = 0; i < length; ++i) middle[i] = a[i] * a[i];
    add_neighbours(length);
    for (int64_t i = 0; i < length; ++i) d[i] = A(norm.k) + A(norm.alpha) * sum[i];
    if (norm.beta == 0.75) {
      for (int64_t i = 0; i < length; ++i) {
        const A inverse = A(1) / std::sqrt(d[i]);
        scale[i] = inverse * std::sqrt(inverse);
      }
    } else {
      for (int64_t i = 0; i < length; ++i) scale[i] = std::pow(d[i], A(-norm.beta));
    }
  }

  const Norm norm;
  const int64_t stride, most;
  std::vector<A> a, g, scale, d, sum, padded;
};

template <typename T, typename A>
void forward(const T* x, T* b, int64_t rows, const Norm& norm) {
  at::parallel_for(0, rows, GRAIN, [&](int64_t begin, int64_t end) {
    Rows<A> block(norm);
    const A *a = block.a.data(), *scale = block.scale.data();
    for (int64_t row = begin; row < end; row += block.most) {
      const int64_t count = std::min(block.most, end - row);
      block.read(x + row * norm.maps, count);
      block.gather(b + row * norm.maps, count, [=](int64_t i) { return a[i] * scale[i]; });
    }
  });
}

// dx_i = g_i d_i^-beta - 2 alpha beta a_i * sum over j within reach of i of g_j a_j d_j^(-beta-1)
template <typename T, typename A>
void backward(const T* g, const T* x, T* dx, int64_t rows, const Norm& norm) {
  const A factor = A(2 * norm.alpha * norm.beta);
  at::parallel_for(0, rows, GRAIN, [&](int64_t begin, int64_t end) {
    Rows<A> block(norm);
    const A *a = block.a.data(), *d = block.d.data(), *sum = block.sum.data();
    A *scale = block.scale.data(), *middle = block.padded.data() + norm.reach;
    for (int64_t row = begin; row < end; row += block.most) {
      const int64_t count = std::min(block.most, end - row), length = count * block.stride - norm.reach;
      block.read(x + row * norm.maps, count);
      block.spread(g + row * norm.maps, block.g.data(), count);
      for (int64_t i = 0; i < length; ++i) scale[i] *= block.g[i];
      for (int64_t i = 0; i < length; ++i) middle[i] = scale[i] * a[i] / d[i];
      block.clear_gaps(middle, count);
      block.add_neighbours(length);
      block.gather(dx + row * norm.maps, count, [=](int64_t i) { return scale[i] - factor * a[i] * sum[i]; });
    }
  });
}

at::Tensor maps_last(const at::Tensor& x) { return x.contiguous(at::MemoryFormat::ChannelsLast); }

Norm settings(const at::Tensor& x, int64_t groups, int64_t size, double alpha, double beta, double k) {
  TORCH_CHECK(x.dim() == 4, "response_norm takes (images, maps, rows, columns)");
  return {x.size(1) / groups, size / 2, alpha, beta, k};
}

at::Tensor run_forward(const at::Tensor& given, int64_t groups, int64_t size, double alpha, double beta, double k) {
  const Norm norm = settings(given, groups, size, alpha, beta, k);
  const at::Tensor x = maps_last(given), b = at::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "response_norm", [&] {
    forward<scalar_t, at::opmath_type<scalar_t>>(x.const_data_ptr<scalar_t>(), b.mutable_data_ptr<scalar_t>(),
                                                 x.numel() / norm.maps, norm);
  });
  return b;
}

at::Tensor run_backward(const at::Tensor& gradient, const at::Tensor& given, int64_t groups, int64_t size, double alpha,
                        double beta, double k) {
  const Norm norm = settings(given, groups, size, alpha, beta, k);
  const at::Tensor x = maps_last(given), g = maps_last(gradient), dx = at::empty_like(x);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "response_norm_backward", [&] {
    backward<scalar_t, at::opmath_type<scalar_t>>(g.const_data_ptr<scalar_t>(), x.const_data_ptr<scalar_t>(),
                                                  dx.mutable_data_ptr<scalar_t>(), x.numel() / norm.maps, norm);
  });
  return dx;
}

}  // namespace

TORCH_LIBRARY(alexnet, library) {
  library.def("response_norm(Tensor x, int groups, int size, float alpha, float beta, float k) -> Tensor");
  library.def(
      "response_norm_backward(Tensor gradient, Tensor x, int groups, int size, float alpha, float beta, float k) "
      "-> Tensor");
}

TORCH_LIBRARY_IMPL(alexnet, CPU, library) {
  library.impl("response_norm", run_forward);
  library.impl("response_norm_backward", run_backward);
}

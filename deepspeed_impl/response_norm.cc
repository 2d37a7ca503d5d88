// The response norm (paper, section 3.3) as operators of torch, forward and backward: float32, float64, bfloat16.
//
//     b_i = a_i * d_i^-beta,  d_i = k + alpha * sum of a_j^2 over the maps j within size/2 of i, in i's group of maps
//
// The maps of one place lie next to each other in memory (channels last). A row is those of one group at one place; it
// is read once, and what is computed on the way, d above all, stays in cache and is not kept for the backward pass:
//
//     place 0   [ group 0: map 0 map 1 ... | group 1: ... ]      work = images x rows x columns x groups
//     place 1   [ ...
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

struct Norm {
  int64_t maps, reach;  // maps of a group
  double alpha, beta, k;
};

// Room for a row's intermediate values. Those that are summed over neighbours have zeros on both sides.
template <typename A>
struct Row {
  explicit Row(const Norm& norm)
      : norm(norm), a(norm.maps), scale(norm.maps), d(norm.maps), sum(norm.maps), padded(norm.maps + 2 * norm.reach) {}

  // sum_i = what lies in `padded` within reach of i.
  void add_neighbours() {
    const A* p = padded.data();
    std::copy(p, p + norm.maps, sum.data());
    for (int64_t j = 1; j <= 2 * norm.reach; ++j)
      for (int64_t i = 0; i < norm.maps; ++i) sum[i] += p[i + j];
  }

  // a, d and scale = d^-beta of the row that `x` points at. The paper's beta of 3/4 needs two roots and no power.
  template <typename T>
  void read(const T* x) {
    A* middle = padded.data() + norm.reach;
    for (int64_t i = 0; i < norm.maps; ++i) a[i] = static_cast<A>(x[i]);
    for (int64_t i = 0; i < norm.maps; ++i) middle[i] = a[i] * a[i];
    add_neighbours();
    for (int64_t i = 0; i < norm.maps; ++i) d[i] = A(norm.k) + A(norm.alpha) * sum[i];
    if (norm.beta == 0.75) {
      for (int64_t i = 0; i < norm.maps; ++i) {
        const A inverse = A(1) / std::sqrt(d[i]);
        scale[i] = inverse * std::sqrt(inverse);
      }
    } else {
      for (int64_t i = 0; i < norm.maps; ++i) scale[i] = std::pow(d[i], A(-norm.beta));
    }
  }

  const Norm norm;
  std::vector<A> a, scale, d, sum, padded;
};

template <typename T, typename A>
void forward(const T* x, T* b, int64_t rows, const Norm& norm) {
  at::parallel_for(0, rows, GRAIN, [&](int64_t begin, int64_t end) {
    Row<A> row(norm);
    for (int64_t at = begin * norm.maps; at < end * norm.maps; at += norm.maps) {
      row.read(x + at);
      for (int64_t i = 0; i < norm.maps; ++i) b[at + i] = static_cast<T>(row.a[i] * row.scale[i]);
    }
  });
}

// dx_i = g_i d_i^-beta - 2 alpha beta a_i * sum over j within reach of i of g_j a_j d_j^(-beta-1)
template <typename T, typename A>
void backward(const T* g, const T* x, T* dx, int64_t rows, const Norm& norm) {
  const A factor = A(2 * norm.alpha * norm.beta);
  at::parallel_for(0, rows, GRAIN, [&](int64_t begin, int64_t end) {
    Row<A> row(norm);
    A* middle = row.padded.data() + norm.reach;
    for (int64_t at = begin * norm.maps; at < end * norm.maps; at += norm.maps) {
      row.read(x + at);
      for (int64_t i = 0; i < norm.maps; ++i) row.scale[i] *= static_cast<A>(g[at + i]);
      for (int64_t i = 0; i < norm.maps; ++i) middle[i] = row.scale[i] * row.a[i] / row.d[i];
      row.add_neighbours();
      for (int64_t i = 0; i < norm.maps; ++i)
        dx[at + i] = static_cast<T>(row.scale[i] - factor * row.a[i] * row.sum[i]);
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

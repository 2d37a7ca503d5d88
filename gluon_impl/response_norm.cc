// The response norm (paper, section 3.3) as an MXNet operator, forward and backward, float32 and float64.
//
//     b_i = a_i / d_i^beta,  d_i = k + alpha * sum of a_j^2 over the maps j within size/2 of i, in i's group of maps
//
// Where it rectifies, a is the ReLU of what it reads: as a layer of its own the ReLU would read and write every value
// once more in each direction.
//
// MXNet's own LRN falls back to a reference kernel in its backward pass and cannot do float64. Here each thread
// takes a strip of pixels of one image through all maps of a group, so every value is read from cache:
//
//     map 0    |strip|strip|...        work = images x groups x strips
//     map 1    |strip|strip|...
//       :
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "operators.h"

namespace {

constexpr int64_t STRIP = 256;  // pixels: all maps of a column, 48 to 128, then fit the second-level cache

struct Norm {
  int64_t reach, groups;
  double alpha, beta, k;
  bool rectifies;

  explicit Norm(const Attributes& attributes)
      : reach(std::stoll(attributes.at("size")) / 2),
        groups(std::stoll(attributes.at("groups"))),
        alpha(std::stod(attributes.at("alpha"))),
        beta(std::stod(attributes.at("beta"))),
        k(std::stod(attributes.at("k"))),
        rectifies(attributes.at("rectifies") == "1") {}
};

template <bool RECTIFIES, typename T>
inline T activation(T x) {
  return RECTIFIES ? std::max(x, T(0)) : x;
}

// d^-beta. The paper's beta of 3/4 needs two square roots instead of a power.
template <typename T>
inline void powers(const T* d, T* out, int64_t count, double beta) {
  if (beta == 0.75) {
    for (int64_t p = 0; p < count; ++p) {
      const T r = T(1) / std::sqrt(d[p]);
      out[p] = r * std::sqrt(r);
    }
  } else {
    for (int64_t p = 0; p < count; ++p) out[p] = std::pow(d[p], T(-beta));
  }
}

// d for one strip of map i: `x` points at the strip of the group's first map, `plane` pixels further is the next map.
template <bool RECTIFIES, typename T>
inline void denominators(const T* x, int64_t plane, int64_t maps, int64_t i, int64_t count, const Norm& norm, T* d) {
  std::fill(d, d + count, T(0));
  const int64_t last = std::min(maps - 1, i + norm.reach);
  for (int64_t j = std::max<int64_t>(0, i - norm.reach); j <= last; ++j) {
    const T* row = x + j * plane;
    for (int64_t p = 0; p < count; ++p) {
      const T a = activation<RECTIFIES>(row[p]);
      d[p] += a * a;
    }
  }
  for (int64_t p = 0; p < count; ++p) d[p] = T(norm.k) + T(norm.alpha) * d[p];
}

// Calls work(offset of the strip, pixels in it, maps in the group, pixels in a map) for every strip, over threads.
template <typename Work>
void each_strip(const std::vector<int64_t>& shape, int64_t groups, Work work) {
  int64_t plane = 1;
  for (size_t axis = 2; axis < shape.size(); ++axis) plane *= shape[axis];
  const int64_t maps = shape[1] / groups;
  const int64_t strips = (plane + STRIP - 1) / STRIP;
  const int64_t total = shape[0] * groups * strips;
#pragma omp parallel for schedule(static)
  for (int64_t index = 0; index < total; ++index) {
    const int64_t start = (index % strips) * STRIP;
    work((index / strips) * maps * plane + start, std::min(STRIP, plane - start), maps, plane);
  }
}

template <bool RECTIFIES, typename T>
void forward(const T* x, T* b, const std::vector<int64_t>& shape, const Norm& norm) {
  each_strip(shape, norm.groups, [&](int64_t offset, int64_t count, int64_t maps, int64_t plane) {
    T d[STRIP], scale[STRIP];
    for (int64_t i = 0; i < maps; ++i) {
      denominators<RECTIFIES>(x + offset, plane, maps, i, count, norm, d);
      powers(d, scale, count, norm.beta);
      const T* in = x + offset + i * plane;
      T* out = b + offset + i * plane;
      for (int64_t p = 0; p < count; ++p) out[p] = activation<RECTIFIES>(in[p]) * scale[p];
    }
  });
}

// da_i = g_i d_i^-beta - 2 alpha beta a_i * sum over j within reach of i of g_j a_j d_j^(-beta-1), and dx_i = da_i
// where x_i passed.
template <bool RECTIFIES, typename T>
void backward(const T* g, const T* x, T* dx, const std::vector<int64_t>& shape, const Norm& norm) {
  each_strip(shape, norm.groups, [&](int64_t offset, int64_t count, int64_t maps, int64_t plane) {
    std::vector<T> shared(maps * STRIP);
    T d[STRIP], scale[STRIP], sum[STRIP];
    for (int64_t i = 0; i < maps; ++i) {
      denominators<RECTIFIES>(x + offset, plane, maps, i, count, norm, d);
      powers(d, scale, count, norm.beta);
      const int64_t at = offset + i * plane;
      T* mine = shared.data() + i * STRIP;
      for (int64_t p = 0; p < count; ++p) {
        dx[at + p] = g[at + p] * scale[p];
        mine[p] = dx[at + p] * activation<RECTIFIES>(x[at + p]) / d[p];
      }
    }
    const T factor = T(2 * norm.alpha * norm.beta);
    for (int64_t i = 0; i < maps; ++i) {
      std::fill(sum, sum + count, T(0));
      const int64_t last = std::min(maps - 1, i + norm.reach);
      for (int64_t j = std::max<int64_t>(0, i - norm.reach); j <= last; ++j)
        for (int64_t p = 0; p < count; ++p) sum[p] += shared[j * STRIP + p];
      const int64_t at = offset + i * plane;
      for (int64_t p = 0; p < count; ++p) {
        const T da = dx[at + p] - factor * x[at + p] * sum[p];
        dx[at + p] = RECTIFIES && !(x[at + p] > 0) ? T(0) : da;
      }
    }
  });
}

struct Forward {
  template <typename T>
  static void run(const Attributes& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs) {
    const Norm norm(attributes);
    const auto pass = norm.rectifies ? forward<true, T> : forward<false, T>;
    MXTensor &x = inputs->at(0), &b = outputs->at(0);
    pass(x.data<T>(), b.data<T>(), b.shape, norm);
  }
};

// MXNet hands over the gradient of the output, then the input, then the output.
struct Backward {
  template <typename T>
  static void run(const Attributes& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs) {
    const Norm norm(attributes);
    const auto pass = norm.rectifies ? backward<true, T> : backward<false, T>;
    MXTensor &g = inputs->at(0), &x = inputs->at(1), &dx = outputs->at(0);
    // Not an input's shape: MXNet moves those of arrays that it puts into plain layout.
    pass(g.data<T>(), x.data<T>(), dx.data<T>(), dx.shape, norm);
  }
};

MXReturnValue same_shape(const Attributes&, std::vector<std::vector<unsigned int>>* inputs,
                         std::vector<std::vector<unsigned int>>* outputs) {
  outputs->at(0) = inputs->at(0);
  return MX_SUCCESS;
}

}  // namespace

REGISTER_OP(response_norm)
    .setForward(by_type<Forward>, "cpu")
    .setBackward(by_type<Backward>, "cpu")
    .setParseAttrs(one_to_one<Norm>)
    .setInferType(floats_only)
    .setInferShape(same_shape);

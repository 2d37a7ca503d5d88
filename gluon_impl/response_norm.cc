// The response norm (paper, section 3.3) as an MXNet operator, forward and backward, float32 and float64.
//
//     b_i = a_i / d_i^beta,  d_i = k + alpha * sum of a_j^2 over the maps j within size/2 of i, in i's group of maps
//
// Where it rectifies, a is the ReLU of what it reads: as a layer of its own the ReLU would read and write every value
// once more in each direction.
//
// MXNet's own LRN falls back to a reference kernel in its backward pass and cannot do float64. Here each thread
// takes a strip of pixels of one image through all maps of a group, and keeps of each map what its neighbours need only
// while they are within reach, so that every value is read from memory once:
//
//     map 0    |strip|strip|...        work = images x groups x strips
//     map 1    |strip|strip|...
//       :
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "operators.h"

namespace {

// Pixels: rows of it are long enough to be fetched ahead, and those within reach fit the second-level cache.
constexpr int64_t STRIP = 1024;

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
        rectifies(attributes.at("rectifies") == "1") {
    if (reach < 0 || groups < 1) throw std::invalid_argument("size is not negative, and groups begin at 1");
  }
};

template <bool RECTIFIES, typename T>
inline T activation(T x) {
  return RECTIFIES ? std::max(x, T(0)) : x;
}

// d^-beta. The paper's beta of 3/4 needs two square roots instead of a power.
template <typename T>
inline T power(T d, T beta) {
  if (beta != T(0.75)) return std::pow(d, -beta);
  const T r = T(1) / std::sqrt(d);
  return r * std::sqrt(r);
}

// The strips of 2 reach + 1 maps in a ring, each in the place of the one that has left reach; of maps before the first,
// zeros.
template <typename T>
class Ring {
 public:
  explicit Ring(int64_t reach) : reach_(reach), width_(2 * reach + 1), room_(width_ * STRIP) {}

  T* operator[](int64_t map) { return room_.data() + (map + width_) % width_ * STRIP; }

  // Over the maps within reach of `map`.
  void sum_around(int64_t map, int64_t count, T* __restrict sum) {
    if (reach_ == 2) {  // the paper's, without writing what is summed up so far
      const T *a = (*this)[map - 2], *b = (*this)[map - 1], *c = (*this)[map], *d = (*this)[map + 1],
              *e = (*this)[map + 2];
      for (int64_t p = 0; p < count; ++p) sum[p] = a[p] + b[p] + c[p] + d[p] + e[p];
      return;
    }
    std::fill(sum, sum + count, T(0));
    for (int64_t j = map - reach_; j <= map + reach_; ++j) {
      const T* row = (*this)[j];
      for (int64_t p = 0; p < count; ++p) sum[p] += row[p];
    }
  }

 private:
  int64_t reach_, width_;
  std::vector<T> room_;
};

// The squares of map i, zeros after the last: `x` points at the strip of the group's first map, `plane` pixels further
// is the next.
template <bool RECTIFIES, typename T>
inline void square(const T* x, int64_t plane, int64_t i, int64_t maps, int64_t count, Ring<T>* squares) {
  T* row = (*squares)[i];
  if (i >= maps) {
    std::fill(row, row + count, T(0));
    return;
  }
  x += i * plane;
  for (int64_t p = 0; p < count; ++p) {
    const T a = activation<RECTIFIES>(x[p]);
    row[p] = a * a;
  }
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
    Ring<T> squares(norm.reach);
    T sum[STRIP];
    const T k = T(norm.k), alpha = T(norm.alpha), beta = T(norm.beta);
    for (int64_t i = -norm.reach; i < maps; ++i) {
      const int64_t ahead = i + norm.reach;
      square<RECTIFIES>(x + offset, plane, ahead, maps, count, &squares);
      if (i < 0) continue;
      const T* in = x + offset + i * plane;
      T* out = b + offset + i * plane;
      squares.sum_around(i, count, sum);
      for (int64_t p = 0; p < count; ++p) out[p] = activation<RECTIFIES>(in[p]) * power(k + alpha * sum[p], beta);
    }
  });
}

// da_i = g_i d_i^-beta - 2 alpha beta a_i * sum over j within reach of i of g_j a_j d_j^(-beta-1), and dx_i = da_i
// where x_i passed. What is summed up is known `reach` maps ahead of i, and the squares that it takes as many further.
template <bool RECTIFIES, typename T>
void backward(const T* g, const T* x, T* dx, const std::vector<int64_t>& shape, const Norm& norm) {
  each_strip(shape, norm.groups, [&](int64_t offset, int64_t count, int64_t maps, int64_t plane) {
    Ring<T> squares(norm.reach), shared(norm.reach), scaled(norm.reach);
    T sum[STRIP];
    const T k = T(norm.k), alpha = T(norm.alpha), beta = T(norm.beta), factor = 2 * alpha * beta;
    for (int64_t i = -2 * norm.reach; i < maps; ++i) {
      const int64_t ahead = i + norm.reach, furthest = ahead + norm.reach;
      square<RECTIFIES>(x + offset, plane, furthest, maps, count, &squares);
      T *mine = shared[ahead], *own = scaled[ahead];
      if (ahead >= maps) std::fill(mine, mine + count, T(0));
      if (ahead >= 0 && ahead < maps) {
        const T *in = x + offset + ahead * plane, *gradient = g + offset + ahead * plane;
        squares.sum_around(ahead, count, sum);
        for (int64_t p = 0; p < count; ++p) {
          const T d = k + alpha * sum[p];
          own[p] = gradient[p] * power(d, beta);
          mine[p] = own[p] * activation<RECTIFIES>(in[p]) / d;
        }
      }
      if (i < 0) continue;
      const T *in = x + offset + i * plane, *direct = scaled[i];
      T* out = dx + offset + i * plane;
      shared.sum_around(i, count, sum);
      for (int64_t p = 0; p < count; ++p) {
        const T da = direct[p] - factor * in[p] * sum[p];
        out[p] = RECTIFIES && !(in[p] > 0) ? T(0) : da;
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

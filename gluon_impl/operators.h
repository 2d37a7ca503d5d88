// What MXNet asks of every operator that makes one array of numbers from another, float32 or float64.
#pragma once

#include <exception>
#include <string>
#include <unordered_map>
#include <vector>

#include "mxnet/lib_api.h"

using namespace mxnet::ext;
using Attributes = std::unordered_map<std::string, std::string>;

namespace {

// Calls `Pass::run<T>` for the type that the arrays have.
template <typename Pass>
MXReturnValue by_type(const Attributes& attributes, std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                      const OpResource&) {
  if (outputs->at(0).dtype == kFloat64)
    Pass::template run<double>(attributes, inputs, outputs);
  else
    Pass::template run<float>(attributes, inputs, outputs);
  return MX_SUCCESS;
}

// One array of another, and attributes that make `Settings`.
template <typename Settings>
MXReturnValue one_to_one(const Attributes& attributes, int* inputs, int* outputs) {
  try {
    Settings{attributes};
  } catch (const std::exception& error) {  // one is missing, or no number
    MX_ERROR_MSG << "an attribute of our operator is missing or wrong: " << error.what();
    return MX_FAIL;
  }
  *inputs = *outputs = 1;
  return MX_SUCCESS;
}

MXReturnValue floats_only(const Attributes&, std::vector<int>* inputs, std::vector<int>* outputs) {
  const int type = inputs->at(0);
  if (type != kFloat32 && type != kFloat64) {
    MX_ERROR_MSG << "our operators compute in float32 and float64 only";
    return MX_FAIL;
  }
  outputs->at(0) = type;
  return MX_SUCCESS;
}

}  // namespace

/** What `import ... from "fovea"` offers. */
export { datasets, type Splits } from "./data/datasets.js";
export { type ErrorCode, FoveaError } from "./errors.js";
export {
  describe,
  type GraphDefinition,
  type Initializer,
  type LayerDescription,
  type NodeDefinition,
} from "./model/definition.js";
export {
  type AvgPoolOptions,
  type ConvOptions,
  FeatureMap,
  input,
  type LayerOptions,
  type PoolOptions,
  Vector,
  type WeightOptions,
} from "./model/feature-map.js";
export { type EvaluateOptions, Model, type ModelOptions, model } from "./model/model.js";
export type { MapShape, Padding, Pair, Shape, ShapeError, Size, VectorShape } from "./model/shape.js";
export {
  type Dataset,
  type DoctorReport,
  doctor,
  type Evaluation,
  type NpyArray,
  readNpy,
  writeNpy,
} from "./native.js";
export type { Advice } from "./report/advice.js";
export { formatSummary, type LayerSummary, type Summary, summarize } from "./report/summary.js";
export type { EpochMetrics, FitCallbacks, FitOptions, FitResult, FitState, StepMetrics } from "./training/fit.js";
export { type Optimizer, type Sgd, type SgdOptions, sgd } from "./training/optimizers.js";
export {
  type ConstantSchedule,
  type CosineSchedule,
  constant,
  cosine,
  type InverseSchedule,
  inverse,
  type Schedule,
  type StepSchedule,
  step,
} from "./training/schedules.js";
export * as zoo from "./zoo/index.js";

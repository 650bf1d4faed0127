/** What `import ... from "fovea"` offers. */
export {
  type Augmentation,
  augment,
  type KnownNormalization,
  parseAugmentation,
  resolveAugmentations,
} from "./data/augmentations.js";
export {
  type DirectoryOptions,
  datasets,
  type FolderSplits,
  type ImageFolderOptions,
  type Splits,
} from "./data/datasets.js";
export type { BatchesOptions, FromIterableOptions, Sample, SampleBatch, Samples } from "./data/iterable.js";
export { type ErrorCode, FoveaError } from "./errors.js";
export { concat } from "./model/concat.js";
export {
  describe,
  type GraphDefinition,
  type Initializer,
  type LayerDescription,
  type LossDefinition,
  type NodeDefinition,
} from "./model/definition.js";
export { FeatureMap, input } from "./model/feature-map.js";
export {
  type AlgorithmName,
  type Algorithms,
  type AuxiliaryOutput,
  type Batch,
  type EvaluateOptions,
  type LoadOptions,
  Model,
  type ModelOptions,
  model,
  type Output,
  type Outputs,
  type WeightsOptions,
} from "./model/model.js";
export { type LoadOnnxOptions, loadOnnx } from "./model/onnx.js";
export type {
  AvgPoolOptions,
  BatchNormOptions,
  ConvOptions,
  ConvTransposeOptions,
  DepthwiseConvOptions,
  HardSigmoidOptions,
  LayerOptions,
  LeakyReluOptions,
  LocalResponseNormOptions,
  NormOptions,
  PadOptions,
  PoolOptions,
  PreluOptions,
  ScaleOptions,
  WeightOptions,
} from "./model/options.js";
export type { MapShape, Padding, Pair, Shape, ShapeError, Size, VectorShape, Zeros } from "./model/shape.js";
export { Vector } from "./model/vector.js";
export {
  type BatchResult,
  type Dataset,
  type DoctorReport,
  doctor,
  type Evaluation,
  type NpyArray,
  readNpy,
  writeNpy,
} from "./native.js";
export type { Advice } from "./report/advice.js";
export { diagram } from "./report/diagram/index.js";
export { type Counts, formatSummary, type LayerSummary, type Summary, summarize } from "./report/summary.js";
export { saveBest, saveCheckpoints } from "./training/checkpoints.js";
export {
  type FindLearningRateOptions,
  findLearningRate,
  type LearningRatePoint,
  type LearningRateSearch,
} from "./training/find-learning-rate.js";
export type {
  BestEpoch,
  EpochMetrics,
  FitCallbacks,
  FitOptions,
  FitResult,
  FitState,
  StepMetrics,
} from "./training/fit-options.js";
export { csvLog, jsonLinesLog } from "./training/logs.js";
export {
  type Adam,
  type AdamOptions,
  type AdamW,
  adam,
  adamw,
  type Lamb,
  type Lars,
  type LarsOptions,
  lamb,
  lars,
  type Optimizer,
  type OptimizerOptions,
  type ParameterGroup,
  type RmsProp,
  type RmsPropOptions,
  rmsprop,
  type Sgd,
  type SgdOptions,
  sgd,
} from "./training/optimizers.js";
export { type ClassMetrics, perClass } from "./training/per-class.js";
export { type Recipe, type RecipeName, recipe, recipes } from "./training/recipes.js";
export {
  constant,
  cosine,
  inverse,
  type LearningRateFunction,
  type Metric,
  multiStep,
  oneCycle,
  plateau,
  polynomial,
  type RunLength,
  type Schedule,
  step,
} from "./training/schedules.js";
export type { StepOptions, TrainStepOptions } from "./training/train-step.js";
export * as zoo from "./zoo/index.js";

/** What a step of training is made of, in the words of the native contract. */
import { check, checkOptional, type Kind, kinds } from "../arguments.js";
import { invalidArgument } from "../errors.js";
import type { BatchRequest, OptimizerOptions, ParameterGroupOptions, Session } from "../native.js";
import { isRecord } from "./json.js";
import { type Optimizer, sgd } from "./optimizers.js";

/** What a step does besides its images. */
export interface StepOptions {
  /** Default `sgd()`. */
  readonly optimizer?: Optimizer | undefined;
  /** Share of each target that is spread evenly over all classes, from 0 to below 1. Default 0. */
  readonly labelSmoothing?: number | undefined;
  /** A factor of each class's cross-entropy, at least 0. Default: all 1. */
  readonly classWeights?: readonly number[] | Float32Array | undefined;
  /** The gradients of all parameters together are scaled down to this norm where theirs is larger. Default: they are not. */
  readonly clipNorm?: number | undefined;
  /**
   * Parts into which the images of a step are cut, computed one after the other to save memory: their gradients add up to
   * the batch's, and batch normalisations see each part by itself. Default 1.
   */
  readonly accumulate?: number | undefined;
  /**
   * Share that moving averages of the weights keep of themselves in every step, from 0 to below 1; `fit` judges them.
   * Default: no averages.
   */
  readonly ema?: number | undefined;
  /**
   * Names of layers (`"conv1"`), of what contains them (`"layer1"`) or of parameters that do not learn; a batch
   * normalisation among them uses its running statistics and keeps them. Default: none.
   */
  readonly frozen?: readonly string[] | undefined;
}

/** Options of `trainStep`. */
export interface TrainStepOptions extends StepOptions {
  /** Default: the base rate of the optimizer's schedule, whose curve is for `fit` alone. */
  readonly learningRate?: number | undefined;
}

const optimizers: Kind = {
  expected: "an optimizer as `sgd()` or another function makes it",
  includes: (value) =>
    isRecord(value) && isRecord(value["learningRate"]) && "noDecay" in value && Array.isArray(value["groups"]),
};

/** What a step is made of but its learning rate. */
export type NativeStep = Omit<BatchRequest, "learningRate">;

/** The options of a step as the session reads them. */
export function nativeStep(session: Session, options: StepOptions): NativeStep {
  const { optimizer = sgd(), labelSmoothing = 0, classWeights, clipNorm, accumulate, ema, frozen = [] } = options;
  check("optimizer", optimizers, optimizer);
  check("frozen", kinds.strings, frozen);
  checkOptional("classWeights", kinds.numbers, classWeights);
  if (!(labelSmoothing >= 0 && labelSmoothing < 1)) {
    throw invalidArgument("labelSmoothing", "a number from 0 to below 1", labelSmoothing);
  }
  return {
    optimizer: nativeOptimizer(optimizer, labelSmoothing),
    groups: nativeGroups(session, optimizer),
    frozen: [...frozen],
    ...(classWeights !== undefined && { classWeights: Float32Array.from(classWeights) }),
    ...(clipNorm !== undefined && { clipNorm }),
    ...(accumulate !== undefined && { accumulate }),
    ...(ema !== undefined && { ema }),
  };
}

/** A step on the caller's batch. */
export function batchRequest(session: Session, options: TrainStepOptions): BatchRequest {
  const { optimizer = sgd() } = options;
  check("optimizer", optimizers, optimizer);
  const { learningRate: schedule } = optimizer;
  const learningRate = options.learningRate ?? (schedule.kind === "function" ? undefined : schedule.rate);
  if (learningRate === undefined) {
    throw invalidArgument("learningRate", "a number beside an optimizer whose rate is a function", "none");
  }
  return { learningRate, ...nativeStep(session, options) };
}

function nativeOptimizer(optimizer: Optimizer, labelSmoothing: number): OptimizerOptions {
  const { learningRate: _, noDecay: __, groups: ___, ...rest } = optimizer;
  return { ...rest, labelSmoothing };
}

/** Every parameter that the first group with its name, or what is spared the weight decay, sets apart from the rest. */
function nativeGroups(session: Session, { groups, noDecay }: Optimizer): ParameterGroupOptions[] {
  const parameters = session.parameters();
  const goesBy = (parameter: string, name: string): boolean => parameter === name || parameter.startsWith(`${name}.`);
  for (const name of groups.flatMap(({ layers }) => layers)) {
    if (!parameters.some((parameter) => goesBy(parameter.name, name))) {
      throw invalidArgument("groups.layers", "names of layers with parameters, or of parameters,", `"${name}"`);
    }
  }
  return parameters.flatMap(({ name, shape }) => {
    const group = groups.find(({ layers }) => layers.some((layer) => goesBy(name, layer)));
    const spared = noDecay !== null && shape.length === 1 ? 0 : undefined;
    if (group === undefined && spared === undefined) return [];
    const weightDecay = group?.weightDecay ?? spared;
    const learningRateScale = group?.learningRateScale ?? 1;
    return [{ names: [name], learningRateScale, ...(weightDecay !== undefined && { weightDecay }) }];
  });
}

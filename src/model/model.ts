import { check, checkedOptions, checkOptional, kinds } from "../arguments.js";
import { type Augmentation, augmentationsJson } from "../data/augmentations.js";
import { FoveaError, invalidArgument } from "../errors.js";
import { type BatchResult, type Dataset, type Evaluation, Session } from "../native.js";
import { diagram } from "../report/diagram/index.js";
import { formatSummary, summarize } from "../report/summary.js";
import { checkIdle } from "../training/exclusive.js";
import { fit } from "../training/fit.js";
import { type FitOptions, type FitResult, type FitState, parseState } from "../training/fit-options.js";
import { batchRequest, type TrainStepOptions } from "../training/train-step.js";
import { describe, type GraphDefinition, type LossDefinition } from "./definition.js";
import { FeatureMap } from "./feature-map.js";
import { GraphBuilder, type Place } from "./graph-builder.js";
import { volume } from "./operations.js";
import { type MapShape, type Shape, typed, type Volume } from "./shape.js";
import { type OfShape, place, type Symbolic } from "./symbolic.js";

/** A way to compute a pass of a convolution or dense layer. */
export type AlgorithmName = "direct" | "scatter" | "packed" | "winograd";

/**
 * Algorithms by layer, `conv1`, or by a layer's pass: `conv1.forward`, `conv1.inputGradient`, `conv1.weightGradient`.
 *
 * A layer alone stands for all of its passes that can be computed so.
 */
export type Algorithms = Readonly<Record<string, AlgorithmName>>;

/** Options of {@link model}, which hold as long as the model lives. */
export interface ModelOptions {
  /** Names the network in summaries and files. Default `"model"`. */
  readonly name?: string | undefined;
  /** Key of the first weights, and of the shuffled order where `fit` is given no other. Default 0. */
  readonly seed?: number | undefined;
  /** Threads that compute. Default: as many as this process may use at once. */
  readonly threads?: number | undefined;
  /** `"fast"` lets kernels choose quicker algorithms with a little more rounding, `"strict"` sums directly. Default `"fast"`. */
  readonly precision?: "fast" | "strict" | undefined;
  /** Algorithms instead of those that the cost model chooses, which `fovea explain` shows. Default none. */
  readonly algorithms?: Algorithms | undefined;
}

/** Which weights are meant. */
export interface WeightsOptions {
  /** The moving averages that training with `ema` makes, instead of the weights themselves. Default false. */
  readonly averaged?: boolean | undefined;
}

/** Options of {@link Model.evaluate}. */
export interface EvaluateOptions extends WeightsOptions {
  /** Images computed at once. Default 256. */
  readonly batchSize?: number | undefined;
  /** What training did to its images: the normalisation is done here, too, the rest is not. Default: nothing. */
  readonly augment?: readonly Augmentation[] | undefined;
  /**
   * Judge by the mean of the scores of each image and of its mirror image, left and right exchanged: two looks at what
   * may stand either way. Default false.
   */
  readonly mirrored?: boolean | undefined;
}

/** Options of {@link Model.load}. */
export interface LoadOptions {
  /**
   * Names of layers (`"fc"`), of what contains them (`"layer4"`) or of tensors (`"fc.bias"`) that stay as they are, whatever
   * the file has under them. Default: none.
   */
  readonly except?: readonly string[] | undefined;
}

/** A batch of a training loop of one's own. */
export interface Batch {
  /** Images one after another, height x width x channels values each: bytes, scaled to 0..1, or floats as they are. */
  readonly images: Uint8Array | Float32Array;
  /** A class for each image, or for each image as many floats as the outputs have: probabilities, or what to learn. */
  readonly targets: Uint32Array | Float32Array;
}

/** What the last layer of a network may be: a vector or feature map whose sizes exist. */
export type Output = OfShape<Shape>;

/** A network's last layer, and auxiliary heads beside it, which only training has. */
export interface Outputs<O extends Output> {
  /** What the network predicts. */
  readonly output: O;
  /** How it is judged in training. Default `{ kind: "crossEntropy" }`. */
  readonly loss?: LossDefinition | undefined;
  /** Further outputs of the same shape; their losses, each times its weight, are added to the first one's. Default none. */
  readonly auxiliary?: readonly AuxiliaryOutput<O["shape"]>[] | undefined;
}

/** One of {@link Outputs}' auxiliary heads. */
export interface AuxiliaryOutput<S extends Shape> {
  readonly output: OfShape<S>;
  /** At least 0. */
  readonly lossWeight: number;
  /** Default: as the first output is judged. */
  readonly loss?: LossDefinition | undefined;
}

/**
 * A network: its definition, and from the first use of its weights a native session that holds them and computes.
 *
 * Made by {@link model} and by the zoo. Calls that compute run on threads of their own and never on
 * JavaScript's, one after another in the order in which they were made. `fit` and `findLearningRate` are made
 * of many short pieces: predictions, evaluations and saves that are asked for meanwhile come between two of
 * them and see the weights of that moment, and what would change the weights is refused with the code `BUSY`
 * until they end. {@link close} ends the model and gives its memory back before the garbage collector would;
 * every later call is refused with the code `CLOSED`.
 *
 * @param definition the graph, as `model(...).definition` and checkpoints have it
 * @param options `seed` (0), `threads`, `precision` (`"fast"`), `algorithms`; the name is the definition's
 * @throws FoveaError `INVALID_SHAPE`, `INVALID_ARGUMENT` or `INVALID_GRAPH` when the definition makes no network
 */
export class Model<out InputShape extends MapShape = MapShape, out OutputShape extends Shape = Shape> {
  readonly definition: GraphDefinition;
  /** Height, width and channels of an image. */
  readonly inputShape: InputShape;
  /** What the last layer gives for one image: `[classes]` for a classifier. */
  readonly outputShape: OutputShape;
  readonly #options: Omit<ModelOptions, "name">;
  #session: Session | undefined;
  #closing: Promise<void> | undefined;

  constructor(definition: GraphDefinition, options: Omit<ModelOptions, "name"> = {}) {
    check("definition", kinds.object, definition);
    checkedOptions(options);
    const layers = describe(definition);
    const [output] = definition.outputs;
    this.definition = definition;
    this.inputShape = typed<InputShape>(definition.input);
    this.outputShape = typed<OutputShape>(layers.find(({ node }) => node.name === output?.node)?.output ?? []);
    this.#options = options;
  }

  /** Number of values for one image. */
  get outputSize(): Volume<OutputShape> {
    return typed<Volume<OutputShape>>(volume(this.outputShape));
  }

  /**
   * The native session, made when first asked for; its weights begin as the seed says.
   *
   * @throws FoveaError `CLOSED` after {@link close}
   */
  get session(): Session {
    if (this.#closing) {
      throw new FoveaError("CLOSED", `Expected "${this.definition.name}" to be open but it was closed.`);
    }
    const { seed = 0, threads, precision, algorithms } = this.#options;
    this.#session ??= new Session({
      graph: JSON.stringify(this.definition),
      seed,
      ...(threads !== undefined && { threads }),
      ...(precision !== undefined && { precision }),
      ...(algorithms !== undefined && { algorithms }),
    });
    return this.#session;
  }

  /**
   * The network as a table: layers, shapes, parameters, mult-adds, memory, and advice on its sizes below.
   *
   * @returns text for a terminal
   * @example
   * ```ts
   * import { zoo } from "fovea";
   *
   * console.log(zoo.lenet5().summary().split("\n")[0]); // lenet5: 28 x 28 x 1 in, 10 classes out
   * ```
   */
  summary(): string {
    return formatSummary(summarize(this.definition));
  }

  /**
   * The network as a picture: layers with shapes and parameters, branches, shortcuts, auxiliary heads.
   *
   * @returns an SVG document, as {@link diagram} makes it
   * @example
   * ```ts
   * import { zoo } from "fovea";
   *
   * console.log(zoo.lenet5().diagram().includes("28 × 28 × 6 · 156 parameters")); // true
   * ```
   */
  diagram(): string {
    return diagram(this.definition);
  }

  /**
   * Trains on a data set: gradient descent on the losses of the outputs.
   *
   * @param train images of the input's shape, with labels below the output's size
   * @param options `epochs` (10) or `steps`, `batchSize` (64), `optimizer`, `validation`, `signal` and others
   * @returns losses and accuracy of the run; the weights are the model's own
   * @throws FoveaError `NOT_FINITE` when the loss stops being a number; `INVALID_DATA` when images or labels do
   * not fit; `INVALID_GRAPH` when the network ends in softmax, which training adds itself; `BUSY` while another
   * `fit` runs
   */
  async fit(train: Dataset, options: FitOptions = {}): Promise<FitResult> {
    checkedOptions(options);
    return fit(this.session, train, { ...options, seed: options.seed ?? this.#options.seed });
  }

  /**
   * One step of training, for a loop of one's own: forward, losses, backward, update. The optimizer's state stays with the
   * model and goes into its checkpoints.
   *
   * @param batch images with classes or values
   * @param options as those of {@link fit} that concern a step, and `learningRate` (the base rate of the optimizer's)
   * @returns the mean loss before the update, and the images that were classified correctly
   * @throws FoveaError `NOT_FINITE` when the loss or a gradient stops being a number, and the weights stay as they were;
   * `INVALID_ARGUMENT` when lengths do not match, `INVALID_DATA` when a label is no class, `BUSY` while `fit`
   * runs
   * @example
   * ```ts
   * import { adam, input, model } from "fovea";
   *
   * const xor = model(input(1, 1, 2), (x) => x.flatten().dense(8).tanh().dense(2), { seed: 1 });
   * const batch = { images: Float32Array.of(0, 0, 0, 1, 1, 0, 1, 1), targets: Uint32Array.of(0, 1, 1, 0) };
   * const optimizer = adam({ learningRate: 0.1 });
   * let correct = 0;
   * for (let step = 0; step < 100; step += 1) ({ correct } = await xor.trainStep(batch, { optimizer }));
   * console.log(correct); // 4
   * await xor.close();
   * ```
   */
  async trainStep(batch: Batch, options: TrainStepOptions = {}): Promise<BatchResult> {
    check("batch", kinds.object, batch);
    const { images, targets } = batch;
    check("batch.images", kinds.pixels, images);
    check("batch.targets", kinds.targets, targets);
    const { session } = this;
    checkIdle(session, "trainStep");
    return session.trainBatch(images, targets, batchRequest(session, checkedOptions(options)));
  }

  /**
   * Loss, accuracy, top-5 accuracy and confusion on a data set.
   *
   * @param dataset images of the input's shape, with labels
   * @param options `batchSize` (256), `augment` as in training, of which the normalisation is kept, `averaged` (false),
   *   `mirrored` (false)
   * @throws FoveaError `INVALID_DATA` when images or labels do not fit; `INVALID_ARGUMENT` when there are no averages
   */
  async evaluate(dataset: Dataset, options: EvaluateOptions = {}): Promise<Evaluation> {
    check("dataset", kinds.dataset, dataset);
    const { batchSize = 256, augment, averaged = false, mirrored = false } = checkedOptions(options);
    checkOptional("augment", kinds.objects, augment);
    return this.session.evaluate(dataset, batchSize, { ...augmentationsJson(augment), averaged, mirrored });
  }

  /**
   * What the network says of images.
   *
   * @param images one image or several, one after another: height x width x channels values each, scaled as in training
   * @returns the last layer's values, one array an image; for a network without softmax scores, of which the largest wins
   * @throws FoveaError `INVALID_ARGUMENT` when the values are no whole number of images
   */
  async predict(images: Float32Array, options: WeightsOptions = {}): Promise<Float32Array[]> {
    check("images", kinds.floats, images);
    const { averaged = false } = checkedOptions(options);
    const count = images.length / volume(this.inputShape);
    if (!Number.isInteger(count) || count === 0) {
      const image = `${volume(this.inputShape)} values ([${this.inputShape.join(", ")}])`;
      throw invalidArgument("images", `a multiple of ${image}`, `${images.length} values`);
    }
    const size = volume(this.outputShape);
    const scores = await this.session.predict(images, count, { averaged });
    return Array.from({ length: count }, (_, index) => scores.subarray(index * size, (index + 1) * size));
  }

  /**
   * Writes the weights as safetensors, in PyTorch's names and layouts, or where the path ends in `.onnx` the whole network
   * as ONNX, for inference and so without auxiliary heads. The file is complete or not there at all.
   *
   * @returns the file's size in bytes
   * @throws FoveaError `IO` when it cannot be written; `INVALID_GRAPH` for a layer that ONNX has no operator for
   */
  async save(path: string, options: WeightsOptions = {}): Promise<number> {
    check("path", kinds.string, path);
    const { averaged = false } = checkedOptions(options);
    if (!isOnnx(path)) return this.session.saveWeights(path, { averaged });
    if (averaged) throw invalidArgument("averaged", "false for an .onnx file", averaged);
    return this.session.saveOnnx(path);
  }

  /**
   * Reads weights that {@link save} or PyTorch wrote as safetensors, or those of an `.onnx` file of this network.
   *
   * @param options `except` (none): what stays as it is, such as the head of a network that is trained for other classes
   * @throws FoveaError `INVALID_WEIGHTS` naming every tensor that is missing, left over or of another shape, and then no
   * weight is changed; `IO` and `INVALID_DATA` when the file cannot be read; `BUSY` while `fit` runs
   */
  async load(path: string, options: LoadOptions = {}): Promise<void> {
    check("path", kinds.string, path);
    const { except = [] } = checkedOptions(options);
    check("except", kinds.strings, except);
    const { session } = this;
    checkIdle(session, "load");
    if (!isOnnx(path)) return session.loadWeights(path, { except: [...except] });
    if (except.length > 0) throw invalidArgument("except", "no names for an .onnx file", except.join(", "));
    await session.loadOnnx(path);
  }

  /**
   * Writes all that {@link resume} needs to go on as if training had not stopped: weights, optimizer state and where the
   * run stands. The file is complete or not there at all.
   *
   * @param state from `onSave`
   * @returns the file's size in bytes
   * @throws FoveaError `IO` when it cannot be written
   */
  async saveCheckpoint(path: string, state: FitState): Promise<number> {
    check("path", kinds.string, path);
    check("state", kinds.object, state);
    return this.session.saveCheckpoint(path, JSON.stringify(state));
  }

  /**
   * Reads a checkpoint, and gives what `fit` needs to go on from it: `fit(train, { ...options, resume: state })`, with
   * the options that the training had, is byte for byte what it would have been without the stop, on any number of
   * threads.
   *
   * @throws FoveaError `INVALID_DATA` when it is no checkpoint, `INVALID_WEIGHTS` when it is another network's, `IO` when
   * it cannot be read; `BUSY` while `fit` runs
   */
  async resume(path: string): Promise<FitState> {
    check("path", kinds.string, path);
    const { session } = this;
    checkIdle(session, "resume");
    return parseState(await session.loadCheckpoint(path), path);
  }

  /**
   * Ends the model and frees its memory, weights included: what was asked for before still ends or, where it
   * takes long, is stopped, and what is asked for later is refused with the code `CLOSED`. Closing twice is
   * closing once.
   */
  async close(): Promise<void> {
    this.#closing ??= this.#session?.close() ?? Promise.resolve();
    await this.#closing;
  }
}

/**
 * Makes a network from a function that leads from its input to its output.
 *
 * @param image what it reads: `input(height, width, channels)`
 * @param build from the input's feature map to the last layer's; blocks are functions of the same kind. With auxiliary
 * heads or another loss, an object: `{ output, loss, auxiliary: [{ output: head, lossWeight: 0.3 }] }`
 * @param options `name` (`"model"`), `seed` (0), `threads` (all), `precision` (`"fast"`)
 * @returns a model whose input and output sizes are types too
 * @throws FoveaError `INVALID_SHAPE` where a layer does not fit, which the compiler finds first if it knows the sizes;
 * `INVALID_GRAPH` when an output is not built from the input
 * @example
 * ```ts
 * import { input, model } from "fovea";
 *
 * const lenet = model(input(28, 28, 1), (x) =>
 *   x.conv(6, 5, { padding: "same" }).relu().maxPool(2)
 *     .conv(16, 5).relu().maxPool(2)
 *     .flatten().dense(120).relu().dense(84).relu().dense(10));
 * const classes: 10 = lenet.outputSize;
 * console.log(lenet.inputShape, classes); // [ 28, 28, 1 ] 10
 *
 * const supervised = model(input(32, 32, 3), (x) => {
 *   const early = x.conv(16, 3).relu().maxPool(2);
 *   const late = early.conv(32, 3).relu().maxPool(2);
 *   const head = early.flatten().dense(10);
 *   return { output: late.flatten().dense(10), auxiliary: [{ output: head, lossWeight: 0.3 }] };
 * });
 * console.log(supervised.outputSize); // 10
 *
 * const copying = model(input(8, 8, 1), (x) => ({
 *   output: x.conv(4, 3, { padding: "same" }).relu().conv(1, 3, { padding: "same" }),
 *   loss: { kind: "meanSquaredError" },
 * }));
 * console.log(copying.definition.outputs[0]?.loss); // { kind: 'meanSquaredError' }
 * ```
 */
export function model<H extends number, W extends number, C extends number, O extends Output>(
  image: FeatureMap<H, W, C>,
  build: (x: FeatureMap<H, W, C>) => O | Outputs<O>,
  options: ModelOptions = {},
): Model<readonly [H, W, C], O["shape"]> {
  const { name = "model", ...rest } = checkedOptions(options);
  check("image", { expected: "a feature map of `input`", includes: (value) => value instanceof FeatureMap }, image);
  check("build", kinds.function, build);
  const graph = new GraphBuilder(image.shape);
  const built: Output | Outputs<Output> = build(new FeatureMap(graph.input));
  check(`${name}.output`, { expected: "a layer or { output }", includes: kinds.object.includes }, built);
  const {
    output,
    loss: first = crossEntropy,
    auxiliary = [],
  }: Outputs<Output> = "output" in built ? built : { output: built };
  const outputs = [{ output, lossWeight: 1 }, ...auxiliary].map(({ output, lossWeight, loss = first }) => {
    return { at: placeIn(graph, output, name), lossWeight, loss };
  });
  return new Model(graph.finish(name, outputs), rest);
}

const crossEntropy: LossDefinition = { kind: "crossEntropy" };

/** Whether a path is that of an ONNX file. */
export function isOnnx(path: string): boolean {
  return path.toLowerCase().endsWith(".onnx");
}

/** Where an output stands in a network. */
function placeIn(graph: GraphBuilder, output: Symbolic, name: string): Place {
  const at = output[place];
  if (at.graph === graph && at.name !== "input") return at;
  const received = at.graph === graph ? "the input itself" : "layers of another input";
  throw new FoveaError("INVALID_GRAPH", `Expected layers on the input of "${name}" but received ${received}.`);
}

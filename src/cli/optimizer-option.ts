/** `--optimizer` and `--group`. */
import { InvalidArgumentError, Option } from "commander";
import {
  type Adam,
  defaultOptimizers,
  type Lars,
  type Optimizer,
  type ParameterGroup,
  type RmsProp,
} from "../training/optimizers.js";
import { fraction, nonNegativeNumber, positiveNumber } from "./options.js";

/** Numbers of optimizers that have no option of their own. */
type Settings = Partial<
  Pick<Adam, "beta1" | "beta2" | "epsilon"> & Pick<RmsProp, "alpha" | "centered"> & Pick<Lars, "trust">
>;

/** An optimizer, and what of it is not as by default. */
export interface OptimizerChoice {
  readonly kind: Optimizer["kind"];
  readonly settings: Settings;
}

const kinds = Object.keys(defaultOptimizers).join(", ");
const parsers: Readonly<Record<keyof Settings, (text: string) => Settings>> = {
  beta1: (text) => ({ beta1: fraction(text) }),
  beta2: (text) => ({ beta2: fraction(text) }),
  epsilon: (text) => ({ epsilon: positiveNumber(text) }),
  alpha: (text) => ({ alpha: fraction(text) }),
  centered: (text) => ({ centered: truth(text) }),
  trust: (text) => ({ trust: positiveNumber(text) }),
};

export const optimizerOption = (): Option =>
  new Option(
    "--optimizer <name[:setting=value...]>",
    `what turns gradients into weights: ${kinds}; its other settings as in adamw:beta2=0.95:epsilon=1e-7 (default: sgd)`,
  ).argParser((text: string): OptimizerChoice => {
    const [name, ...settings] = text.split(":");
    const make = Object.entries(defaultOptimizers).find(([kind]) => kind === name)?.[1];
    if (make === undefined) throw new InvalidArgumentError(`Expected ${kinds} but received "${name}".`);
    const own = make();
    return { kind: own.kind, settings: Object.assign({}, ...settings.map((setting) => parseSetting(own, setting))) };
  });

function parseSetting(optimizer: Optimizer, text: string): Settings {
  const [name = "", value = ""] = text.split("=", 2);
  const known = Object.entries(parsers).filter(([name]) => name in optimizer);
  const parse = known.find(([setting]) => setting === name)?.[1];
  if (parse !== undefined) return parse(value);
  const expected = known.length === 0 ? "no setting" : known.map(([setting]) => `${setting}=VALUE`).join(", ");
  throw new InvalidArgumentError(`Expected ${expected} after ${optimizer.kind} but received "${text}".`);
}

function truth(text: string): boolean {
  if (text !== "true" && text !== "false") {
    throw new InvalidArgumentError(`Expected true or false but received "${text}".`);
  }
  return text === "true";
}

export const groupOption = (): Option =>
  new Option(
    "--group <layers=scale[:decay]>",
    "multiply the learning rate of layers, or blocks of them, and give them a weight decay of their own, as in " +
      "layer1,layer2=0.1 or fc=10:0; may be repeated",
  ).argParser((text: string, earlier: readonly ParameterGroup[] = []): ParameterGroup[] => {
    const [, layers, scale, decay] = /^([^=]+)=([^:]+)(?::(.+))?$/.exec(text) ?? [];
    if (layers === undefined || scale === undefined) {
      throw new InvalidArgumentError(`Expected LAYERS=SCALE or LAYERS=SCALE:DECAY but received "${text}".`);
    }
    const group = { layers: layers.split(","), learningRateScale: nonNegativeNumber(scale) };
    return [...earlier, decay === undefined ? group : { ...group, weightDecay: nonNegativeNumber(decay) }];
  });

import { InvalidArgumentError, Option } from "commander";
import {
  constant,
  cosine,
  inverse,
  multiStep,
  oneCycle,
  plateau,
  polynomial,
  rebased,
  type Schedule,
  type ScheduleUnit,
  step,
} from "../training/schedules.js";
import { fraction, nonNegativeNumber, positiveNumber, wholeNumber } from "./options.js";

/** A schedule whose rate and warm-up are still to be told. */
export type ScheduleShape = (rate: number, warmup: number) => Schedule;

/** What may be typed, and what it means: texts that are left out are undefined. */
const kinds: readonly (readonly [form: string, parse: (texts: readonly string[]) => ScheduleShape])[] = [
  ["constant", () => (rate, warmup) => constant(rate, { warmup })],
  [
    "cosine[:FINAL]",
    ([text = "0"]) => {
      const final = nonNegativeNumber(text);
      return (rate, warmup) => cosine(rate, { warmup, final });
    },
  ],
  [
    "one-cycle[:RISE[:LOWEST-HIGHEST]]",
    ([text = "0.3", range]) => {
      const rise = fraction(text);
      const momentum = range === undefined ? null : momenta(range);
      return (rate, warmup) => rebased(oneCycle(rate, { rise, momentum }), rate, warmup);
    },
  ],
  [
    "step:EPOCHS[:FACTOR]",
    ([text = "", by = "0.1"]) => {
      const { unit, values } = moments(text);
      const [every = 0, ...more] = values;
      if (more.length > 0) throw new InvalidArgumentError(`Expected one number of ${unit} but received "${text}".`);
      const factor = positiveNumber(by);
      return (rate, warmup) => step(rate, { warmup, every, unit, factor });
    },
  ],
  [
    "multi-step:EPOCH,EPOCH...[:FACTOR]",
    ([text = "", by = "0.1"]) => {
      const { unit, values: milestones } = moments(text);
      const factor = positiveNumber(by);
      return (rate, warmup) => multiStep(rate, { warmup, milestones, unit, factor });
    },
  ],
  [
    "polynomial[:POWER]",
    ([text = "1"]) => {
      const power = positiveNumber(text);
      return (rate, warmup) => polynomial(rate, { warmup, power });
    },
  ],
  [
    "inverse:DECAY",
    ([text = ""]) => {
      const decay = positiveNumber(text);
      return (rate, warmup) => inverse(rate, { warmup, decay });
    },
  ],
  [
    "plateau[:PATIENCE[:FACTOR]]",
    ([text = "10", by = "0.1"]) => {
      const patience = wholeNumber(text);
      const factor = positiveNumber(by);
      return (rate, warmup) => plateau(rate, { warmup, patience, factor });
    },
  ],
];
const forms = kinds.map(([form]) => form).join(", ");

export const scheduleOption = (): Option =>
  new Option(
    "--schedule <kind>",
    `${forms}; 32000s are steps instead of epochs, LOWEST-HIGHEST moves the momentum, too (default: constant)`,
  ).argParser(parseSchedule);

/** Understands the forms of `--schedule`. */
function parseSchedule(text: string): ScheduleShape {
  const [kind, ...texts] = text.split(":");
  for (const [form, parse] of kinds) {
    const [name, ...places] = form.split(/\[?:/);
    const needed = form.replace(/\[.*/, "").split(":").length - 1;
    if (name === kind && texts.length >= needed && texts.length <= places.length) return parse(texts);
  }
  throw new InvalidArgumentError(`Expected ${forms} but received "${text}".`);
}

/** `0.85-0.95` */
function momenta(text: string): readonly [number, number] {
  const [lowest, highest, ...more] = text.split("-").map(fraction);
  if (lowest !== undefined && highest !== undefined && more.length === 0) return [lowest, highest];
  throw new InvalidArgumentError(`Expected two momenta, as in 0.85-0.95, but received "${text}".`);
}

/** `30`, `100,150` or, in steps, `32000s,48000s`. */
function moments(text: string): { readonly unit: ScheduleUnit; readonly values: number[] } {
  const parts = text.split(",");
  const inSteps = parts.every((part) => part.endsWith("s"));
  return {
    unit: inSteps ? "steps" : "epochs",
    values: parts.map((part) => positiveNumber(inSteps ? part.slice(0, -1) : part)),
  };
}

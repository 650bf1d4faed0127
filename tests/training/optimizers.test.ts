import { describe, expect, test } from "vitest";
import {
  adam,
  adamw,
  checkedOptimizer,
  defaultOptimizers,
  describeOptimizer,
  lamb,
  lars,
  rmsprop,
  sgd,
} from "../../src/training/optimizers.js";
import { cosine } from "../../src/training/schedules.js";

describe("an optimizer", () => {
  test("has PyTorch's defaults", () => {
    expect(adam()).toMatchObject({ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 });
    expect(adamw()).toMatchObject({ weightDecay: 0.01, learningRate: { kind: "constant", rate: 1e-3 } });
    expect(rmsprop()).toMatchObject({ alpha: 0.99, epsilon: 1e-8, momentum: 0, centered: false, weightDecay: 0 });
    expect(sgd()).toMatchObject({ nesterov: false, weightDecay: 0, learningRate: { kind: "constant" } });
    expect([lamb().noDecay, lars().noDecay, adam().noDecay]).toEqual(["norm-and-bias", "norm-and-bias", null]);
  });

  test("is plain data that stays the same when it is checked again", () => {
    for (const make of Object.values(defaultOptimizers)) {
      const optimizer = make();
      expect(checkedOptimizer(JSON.parse(JSON.stringify(optimizer)))).toEqual(optimizer);
    }
  });

  test("is described in a line", () => {
    const optimizer = adamw({ learningRate: cosine(0.01, { warmup: 5 }), noDecay: "norm-and-bias" });
    expect(describeOptimizer(optimizer)).toBe(
      "adamw, learning rate 0.01 after 5 steps of warm-up, by a cosine to 0, betas 0.9 and 0.999, " +
        "weight decay 0.01 but on norms and biases",
    );
    expect(describeOptimizer(rmsprop({ centered: true, momentum: 0.5 }))).toBe(
      "rmsprop, learning rate 0.01, centred, alpha 0.99, momentum 0.5",
    );
  });

  test.each<[string, () => unknown, string]>([
    ["a momentum of 1", () => sgd({ momentum: 1 }), 'from 0 to below 1 for "momentum" but received 1'],
    ["a negative weight decay", () => sgd({ weightDecay: -1 }), 'of at least 0 for "weightDecay" but received -1'],
    ["Nesterov without momentum", () => lars({ nesterov: true, momentum: 0 }), 'above 0 with nesterov for "momentum"'],
    ["a beta of 1", () => adam({ beta2: 1 }), 'from 0 to below 1 for "beta2" but received 1'],
    ["no epsilon", () => lamb({ epsilon: 0 }), 'a positive number for "epsilon" but received 0'],
    ["an alpha of 2", () => rmsprop({ alpha: 2 }), 'from 0 to below 1 for "alpha" but received 2'],
    ["no trust", () => lars({ trust: Number.NaN }), 'a positive number for "trust" but received NaN'],
    [
      "a group that goes backwards",
      () => sgd({ groups: [{ layers: ["fc"], learningRateScale: -1 }] }),
      'of at least 0 for "learningRateScale" but received -1',
    ],
  ])("refuses %s", (_, make, message) => {
    expect(make).toThrow(message);
  });
});

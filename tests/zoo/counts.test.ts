import { expect, test } from "vitest";
import { summarize } from "../../src/report/summary.js";
import { architecture, architectures, mobilenet } from "../../src/zoo/index.js";

const plain = [
  ["lenet5", 61_706, 416_520],
  ["lenet5-1998", 60_000, 325_680],
  ["alexnet", 60_965_224, 724_406_816],
  ["alexnet-torchvision", 61_100_840, 714_188_480],
  ["resnet18", 11_689_512, 1_814_073_344],
  ["resnet34", 21_797_672, 3_663_761_408],
  ["resnet50", 25_557_032, 4_089_184_256],
  ["resnet101", 44_549_160, 7_801_405_440],
  ["resnet152", 60_192_808, 11_513_626_624],
  ["resnet20", 269_722, 40_551_040],
  ["resnet32", 464_154, 68_862_592],
  ["resnet44", 658_586, 97_174_144],
  ["resnet56", 853_018, 125_485_696],
  ["resnet110", 1_727_962, 252_887_680],
  ["mobilenet", 4_231_976, 568_740_352],
  ["mobilenet-0.75", 2_585_560, 325_400_448],
  ["mobilenet-0.5", 1_331_592, 149_497_088],
  ["mobilenet-0.25", 470_072, 41_030_272],
  ["conv-mobilenet", 29_294_088, 4_867_293_184],
] as const;
const headed = [
  ["googlenet", 13_378_280, 1_591_044_096, 6_998_552, 1_582_671_872],
  ["googlenet-torchvision", 13_004_888, 1_506_748_416, 6_624_904, 1_498_376_192],
] as const;

test.each(plain)("%s has %d parameters and %d mult-adds", (name, parameters, multAdds) => {
  const { auxiliary, ...summary } = summarize(architecture(name).create().definition);
  expect(summary).toMatchObject({ name, parameters, trainableParameters: parameters, multAdds });
  expect(auxiliary).toEqual({ parameters: 0, multAdds: 0, activationBytes: 0 });
});

test.each(headed)("%s has %d parameters and %d mult-adds with its heads, and %d and %d without", (name, ...counts) => {
  const { parameters, multAdds, auxiliary } = summarize(architecture(name).create().definition);
  const without = [parameters - auxiliary.parameters, multAdds - auxiliary.multAdds];
  expect([parameters, multAdds, ...without]).toEqual(counts);
});

test.each([
  [192, 418_121_728],
  [160, 290_675_200],
  [128, 186_400_768],
])("mobilenet of resolution %d has %d mult-adds and the same parameters", (side, multAdds) => {
  const { definition } = mobilenet({ input: [side, side, 3] });
  expect(summarize(definition)).toMatchObject({ parameters: 4_231_976, multAdds });
});

test("every architecture is counted here", () => {
  const counted = [...plain, ...headed].map(([name]) => name);
  expect(architectures.map(({ name }) => name).toSorted()).toEqual(counted.toSorted());
});

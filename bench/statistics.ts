/** Several measurements of one thing: the middle one, and how far they lie apart. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/**
 * Median, smallest and largest of measurements; the median of an even number lies between the middle two.
 *
 * @throws RangeError when there are none
 */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  const upper = sorted[Math.floor(sorted.length / 2)];
  const [min, max] = [sorted[0], sorted[sorted.length - 1]];
  if (lower === undefined || upper === undefined || min === undefined || max === undefined) {
    throw new RangeError("Expected at least one measurement but received none.");
  }
  return { median: (lower + upper) / 2, min, max };
}

/**
 * How many times as long a peer takes as fovea, round by round: what slows the machine for a while slows both.
 *
 * @param ours milliseconds a step, one value a round
 * @param theirs the same of the peer, in the same rounds
 */
export function ratios(ours: readonly number[], theirs: readonly number[]): Spread {
  if (ours.length !== theirs.length) {
    throw new RangeError(`Expected ${ours.length} rounds of the peer but received ${theirs.length}.`);
  }
  return spread(ours.map((milliseconds, round) => (theirs[round] ?? Number.NaN) / milliseconds));
}

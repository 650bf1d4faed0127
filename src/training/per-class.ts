/** How well a network does on one class. */
export interface ClassMetrics {
  /** The class's name, or its number. */
  readonly label: string;
  /** Images of the class. */
  readonly images: number;
  /** Share of the class's images that were recognised; null where there are none. */
  readonly recall: number | null;
  /** Share of what was taken for the class that is of it; null where nothing was. */
  readonly precision: number | null;
}

/**
 * Recall and precision of every class.
 *
 * @param confusion a row for each label, a column for each prediction; or `Evaluation.confusion`, in row order
 * @param names of the classes; numbers by default
 * @example
 * ```ts
 * import { perClass } from "fovea";
 *
 * const [, dog] = perClass(Uint32Array.of(8, 2, 1, 9), ["cat", "dog"]);
 * console.log(dog?.recall, dog?.precision); // 0.9 0.8181818181818182
 * ```
 */
export function perClass(
  confusion: Uint32Array | readonly (readonly number[])[],
  names: readonly string[] = [],
): ClassMetrics[] {
  const counts = "BYTES_PER_ELEMENT" in confusion ? confusion : confusion.flat();
  const classes = Math.sqrt(counts.length);
  const sum = (at: (other: number) => number): number =>
    Array.from({ length: classes }, (_, other) => counts[at(other)] ?? 0).reduce((total, count) => total + count, 0);
  return Array.from({ length: classes }, (_, label) => {
    const right = counts[label * classes + label] ?? 0;
    const images = sum((said) => label * classes + said);
    const said = sum((other) => other * classes + label);
    const share = (whole: number): number | null => (whole === 0 ? null : right / whole);
    return { label: names[label] ?? String(label), images, recall: share(images), precision: share(said) };
  });
}

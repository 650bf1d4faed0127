import { FoveaError } from "../errors.js";
import type { Session } from "../native.js";

/** What trains a session in several commands, by the name of the call that asked for it. */
const running = new WeakMap<Session, string>();

/**
 * Checks that no other call is half way through training a session: a change of its weights would come between
 * two of its steps.
 *
 * @param call the function that would change them, as users call it
 * @throws FoveaError `BUSY` that names both
 */
export function checkIdle(session: Session, call: string): void {
  const other = running.get(session);
  if (other === undefined) return;
  throw new FoveaError(
    "BUSY",
    `Expected a model that nothing trains for "${call}" but received one that "${other}" trains at present.`,
  );
}

/** Trains a session in several commands; others that would change its weights are refused meanwhile. */
export async function exclusively<Result>(
  session: Session,
  call: string,
  train: () => Promise<Result>,
): Promise<Result> {
  checkIdle(session, call);
  running.set(session, call);
  try {
    return await train();
  } finally {
    running.delete(session);
  }
}

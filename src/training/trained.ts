import { check, type Kind } from "../arguments.js";
import type { Session } from "../native.js";

/** What has a session: a model. */
export interface Trained {
  readonly session: Session;
}

const model: Kind = {
  expected: "a model",
  includes: (value) => typeof value === "object" && value !== null && "session" in value,
};

/**
 * The session of a model.
 *
 * @throws FoveaError `INVALID_ARGUMENT` for something else, `CLOSED` when the model is closed
 */
export function sessionOf(trained: Trained): Session {
  check("model", model, trained);
  return trained.session;
}

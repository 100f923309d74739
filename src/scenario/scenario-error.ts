// The error of a scenario that cannot be run: a file that breaks the format, or a step whose cause is no answer of the uAPI.
// Imports nothing.

export class ScenarioError extends Error {
  override readonly name = "ScenarioError";

  /**
   * @param path where in the file, as "$.steps[3].arg". @param step the step, counted from 1; undefined outside the steps.
   * The message does not name the file.
   */
  constructor(readonly path: string, reason: string, readonly step?: number, options?: ErrorOptions) {
    super(`${step === undefined ? "" : `step ${step}: `}${path === "" ? "" : `${path}: `}${reason}`, options);
  }
}

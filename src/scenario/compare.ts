// Is what came out of a step what it expects? Imports the uAPI's error, dma's fault, and its own folder.
import { DmaFault } from "../dma/dma-fault.js";
import { IoctlError } from "../uapi/errno.js";
import type { Process } from "../uapi/process.js";
import type { Content, Json, Step, TranslateStep, Value } from "./scenario.js";
import { bytesDiffer, bytesOf, differs, show, type Mismatch } from "./values.js";

export type Outcome = { readonly value: unknown } | { readonly refusal: IoctlError | DmaFault };
/** The value that a text of a step means. */
type Resolve = (value: Json) => unknown;

/** What of a step's outcome is not as the step expects it. */
export function compareOutcome(step: Step, outcome: Outcome, resolve: Resolve, process: Process): Mismatch | undefined {
  const { expect } = step as { readonly expect?: Json };
  const isAccess = "dma" in step || "wait" in step || "translate" in step;
  if (isStructure(expect) && "errno" in expect) return compareRefusal(expect, "expect", IoctlError, outcome, resolve);
  if (isAccess && isStructure(expect) && "fault" in expect) {
    return compareRefusal(expect["fault"]!, "expect.fault", DmaFault, outcome, resolve);
  }
  if ("refusal" in outcome) {
    return { what: "expect", expected: expect === undefined ? "no refusal" : JSON.stringify(expect), got: outcome.refusal.message };
  }
  if (expect === undefined) return unexpected(step, outcome.value);
  if ("get" in step || "dma" in step || "wait" in step) return bytesDiffer(bytesOf(expect as unknown as Content), outcome.value as Uint8Array);
  if ("translate" in step) return compareAddress(step.expect, outcome.value as bigint, resolve, process);
  return differs(resolve(expect), outcome.value, "expect");
}

function compareRefusal(
  expected: Json, what: string, kind: typeof IoctlError | typeof DmaFault, outcome: Outcome, resolve: Resolve,
): Mismatch | undefined {
  if ("refusal" in outcome && outcome.refusal instanceof kind) {
    const mismatch = differs(resolve(expected), outcome.refusal, what);
    return mismatch && { ...mismatch, got: `${mismatch.got}: ${outcome.refusal.message}` };
  }
  const value = "value" in outcome && outcome.value !== undefined ? `, but ${show(outcome.value)}` : "";
  return { what: "expect", expected: JSON.stringify(expected), got: "refusal" in outcome ? outcome.refusal.message : `no refusal${value}` };
}

function compareAddress(expect: TranslateStep["expect"], got: bigint, resolve: Resolve, process: Process): Mismatch | undefined {
  if ("hpa" in expect) return differs(resolve(expect.hpa), got, "expect.hpa");
  const hva = BigInt(resolve((expect as { readonly hva: Value }).hva) as number | bigint);
  const backing = process.find(Number(hva >> 12n));
  if (backing === undefined) return { what: "expect.hva", expected: `0x${hva.toString(16)}, which is not mapped`, got: show(got) };
  return differs(hva + backing.delta, got, "expect.hva");
}

/** What must be so without being said. */
function unexpected(step: Step, value: unknown): Mismatch | undefined {
  if ("fault" in step && value === null) return { what: "expect", expected: "a record", got: "none" };
  return "enqcmd" in step ? differs({ accepted: true }, value, "expect") : undefined;
}

function isStructure(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// Steps of a change: made at once, or put off in order while a port holds one up. And the patience of an engine, an option.
import { describe, expect, it } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import { EngineError } from "../../src/engine/errors.js";
import { Steps } from "../../src/engine/steps.js";

const stall = new EngineError("PORT_STALLED", "held up", "port", 0);

/** Steps a, b and c, each of which notes that it was tried; those in `held` are held up. */
function fixture() {
  const steps = new Steps();
  const tried: string[] = [];
  const held = new Set<string>();
  const step = (name: string) => (): void => {
    tried.push(name);
    if (held.has(name)) throw stall;
  };
  return { steps, tried, held, take: (...names: string[]) => names.forEach((name) => steps.take(step(name))) };
}

describe("steps", () => {
  it("are made at once, in order", () => {
    const { steps, tried, take } = fixture();
    take("a", "b");
    expect(tried).toEqual(["a", "b"]);
    expect(steps.stall).toBeUndefined();
    steps.finish();
    expect(tried).toEqual(["a", "b"]);
  });

  it("are put off from the first that is held up on, and not tried before it is made", () => {
    const { steps, tried, held, take } = fixture();
    held.add("b");
    take("a", "b", "c");
    expect(tried).toEqual(["a", "b"]);
    expect(steps.stall).toBe(stall);
    expect(() => steps.finish()).toThrow(stall);
    held.delete("b");
    held.add("c");
    expect(() => steps.finish()).toThrow(stall);
    expect(tried).toEqual(["a", "b", "b", "b", "c"]);
    take("d");
    held.clear();
    steps.finish();
    expect(tried).toEqual(["a", "b", "b", "b", "c", "c", "d"]);
    expect(steps.stall).toBeUndefined();
  });

  it("that fail otherwise are not tried again, and those behind them are made", () => {
    const { steps, tried, held, take } = fixture();
    held.add("a");
    take("a");
    steps.take(() => { throw new Error("wrong"); });
    take("b");
    held.clear();
    expect(() => steps.finish()).toThrow("wrong");
    expect(steps.stall, "a step is left").toBe(stall);
    steps.finish();
    expect(tried).toEqual(["a", "a", "b"]);
    expect(steps.stall).toBeUndefined();
  });
});

describe("ports.patience", () => {
  it.each([0, -1, 0.5, 2 ** 31, "1000", NaN])("is an integer from 1 up, not %s", async (patience) => {
    await expect(Engine.create({ ports: { patience: patience as number } })).rejects.toThrow(expect.objectContaining({ code: "BAD_OPTION", field: "ports.patience", value: patience }));
  });
});

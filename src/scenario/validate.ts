// Checks a value against the part of JSON Schema (draft 7) that schema.ts uses, and says what is wrong where. Of several branches the one
// that the value was meant for is blamed. Imports nothing.

export interface Schema {
  readonly $schema?: string;
  readonly $ref?: string;
  readonly title?: string;
  readonly description?: string;
  readonly type?: TypeName | readonly TypeName[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly pattern?: string;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: false;
  readonly oneOf?: readonly Schema[];
  readonly if?: Schema;
  readonly then?: Schema;
  readonly definitions?: Readonly<Record<string, Schema>>;
}

type TypeName = "object" | "array" | "string" | "integer" | "boolean";
type Properties = Readonly<Record<string, unknown>>;

export interface Problem {
  /** "$.steps[3].arg" */
  readonly path: string;
  readonly reason: string;
}

const NAMES: Readonly<Record<TypeName, string>> = {
  object: "an object", array: "a list", string: "a text", integer: "an integer", boolean: "true or false",
};
const DEFINITION = "#/definitions/";

function typeOf(value: unknown): TypeName | "number" | "null" {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value as TypeName;
}

export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

const among = (values: readonly unknown[]): string => values.map((each) => JSON.stringify(each)).join(", ");

export class Validator {
  constructor(readonly root: Schema) {}

  /** The first thing that is wrong; undefined if all is well. */
  check(value: unknown, schema: Schema = this.root, path = "$"): Problem | undefined {
    const { $ref, type, oneOf } = schema;
    if ($ref !== undefined) return this.check(value, this.root.definitions![$ref.slice(DEFINITION.length)], path);
    const found = typeOf(value);
    const types = type === undefined ? [] : [type].flat();
    if (types.length && !types.includes(found as TypeName)) {
      return { path, reason: `must be ${types.map((each) => NAMES[each]).join(" or ")}, not ${shown(value)}` };
    }
    if ("const" in schema && value !== schema.const) return { path, reason: `must be ${among([schema.const])}, not ${shown(value)}` };
    if (schema.enum && !schema.enum.includes(value)) return { path, reason: `must be one of ${among(schema.enum)}, not ${shown(value)}` };
    const problem = this.#checkKind(found, value, schema, path);
    if (problem) return problem;
    if (oneOf) return this.#checkOneOf(value, oneOf, path);
    return schema.if && !this.check(value, schema.if, path) ? this.check(value, schema.then, path) : undefined;
  }

  #checkKind(found: string, value: unknown, schema: Schema, path: string): Problem | undefined {
    switch (found) {
      case "integer": case "number": return checkNumber(value as number, schema, path);
      case "string": return checkText(value as string, schema, path);
      case "array": return this.#checkList(value as unknown[], schema, path);
      case "object": return this.#checkObject(value as Properties, schema, path);
      default: return undefined;
    }
  }

  #checkList(value: readonly unknown[], { items, minItems = 0 }: Schema, path: string): Problem | undefined {
    if (value.length < minItems) return { path, reason: `must have at least ${minItems} element${minItems === 1 ? "" : "s"}` };
    if (!items) return undefined;
    for (const [i, each] of value.entries()) {
      const problem = this.check(each, items, `${path}[${i}]`);
      if (problem) return problem;
    }
    return undefined;
  }

  #checkObject(value: Properties, { properties = {}, required = [], additionalProperties }: Schema, path: string): Problem | undefined {
    const missing = required.find((key) => !Object.hasOwn(value, key));
    if (missing !== undefined) return { path, reason: `"${missing}" is missing` };
    for (const [key, each] of Object.entries(value)) {
      const schema = Object.hasOwn(properties, key) ? properties[key] : undefined;
      if (schema === undefined) {
        if (additionalProperties !== false) continue;
        return { path, reason: `"${key}" is unknown: known are ${Object.keys(properties).join(", ")}` };
      }
      const problem = this.check(each, schema, `${path}.${key}`);
      if (problem) return problem;
    }
    return undefined;
  }

  /** Exactly one branch must fit. */
  #checkOneOf(value: unknown, branches: readonly Schema[], path: string): Problem | undefined {
    const problems = branches.map((branch) => this.check(value, branch, path));
    const fit = problems.filter((problem) => problem === undefined).length;
    if (fit === 1) return undefined;
    const targets = branches.map((branch) => this.#resolve(branch));
    if (fit > 1) return { path, reason: "fits more than one form" };
    const likeness = targets.map((branch) => likenessOf(value, branch));
    const best = Math.max(...likeness);
    if (best > 0) return problems[likeness.indexOf(best)];
    const forms = targets.map(({ required, enum: values }) => (required ? `{ ${required.join(", ")} }` : values ? among(values) : "a value"));
    return { path, reason: `must be one of ${[...new Set(forms)].join(", ")}, not ${shown(value)}` };
  }

  #resolve(schema: Schema): Schema {
    return schema.$ref === undefined ? schema : this.root.definitions![schema.$ref.slice(DEFINITION.length)]!;
  }
}

/** How much a value looks as if it were meant for a branch: 0 without the property that the branch is named by. */
function likenessOf(value: unknown, { required = [], properties = {} }: Schema): number {
  const [first] = required;
  if (typeOf(value) !== "object" || first === undefined || !Object.hasOwn(value as object, first)) return 0;
  const keys = Object.keys(value as object);
  const have = required.filter((key) => keys.includes(key)).length;
  const strange = keys.filter((key) => !Object.hasOwn(properties, key)).length;
  const constant = (key: string): unknown => properties[key]?.const;
  const other = keys.filter((key) => constant(key) !== undefined && constant(key) !== (value as Properties)[key]).length;
  return Math.max(1, 1000 + 10 * have - 10 * (required.length - have) - 15 * strange - 30 * other);
}

function checkNumber(value: number, { minimum, maximum }: Schema, path: string): Problem | undefined {
  if (minimum !== undefined && value < minimum) return { path, reason: `must be ${minimum} or more, not ${value}` };
  if (maximum !== undefined && value > maximum) return { path, reason: `must be ${maximum} or less, not ${value}` };
  return undefined;
}

function checkText(value: string, { minLength = 0, pattern, description }: Schema, path: string): Problem | undefined {
  if ([...value].length < minLength) return { path, reason: "must not be empty" };
  if (pattern === undefined || new RegExp(pattern, "u").test(value)) return undefined;
  return { path, reason: `${shown(value)} is not what it must be${description === undefined ? "" : `: ${description}`}` };
}

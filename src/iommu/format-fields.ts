// How a format that a guest's table is said to have is checked, field by field, before anything is believed of it: rules as data,
// and refusals that name the field. Imports nothing.

/** Why a table cannot be walked. */
export interface FormatRefusal {
  /** "invalid": no IOMMU takes this. "unsupported": this one, as it is set up, does not. */
  readonly kind: "unsupported" | "invalid";
  /** "format", "format.<field>" or "addr". */
  readonly field: string;
  readonly reason: string;
  readonly hint: string;
}

/** What a field must be. An optional one may be absent or undefined. */
export interface Rule {
  readonly optional: boolean;
  readonly must: string;
  readonly holds: (value: unknown) => boolean;
}

/** The fields that each kind has beside `kind`. */
export type FormatRules<Kind extends string> = Readonly<Record<Kind, Readonly<Record<string, Rule>>>>;

export const oneOf = (values: readonly unknown[], optional = false): Rule =>
  ({ optional, must: `one of ${values.join(", ")}`, holds: (value) => values.includes(value) });

export const integerRule = (first: number, last: number, optional = false): Rule => ({
  optional, must: `an integer in ${first}..${last}`, holds: (value) => Number.isInteger(value) && Number(value) >= first && Number(value) <= last,
});

export function refuse(kind: FormatRefusal["kind"], field: string, reason: string, hint: string): FormatRefusal {
  return { kind, field, reason, hint };
}

/** A copy of what may be a format: an object of the caller's may answer otherwise the next time. Anything else stays as it is. */
export function readFormat<Format>(format: Format): Format {
  return typeof format === "object" && format !== null && !Array.isArray(format) ? { ...format } : format;
}

/** Why no IOMMU takes the format; undefined when some does. */
export function checkFormat<Kind extends string>(kinds: FormatRules<Kind>, format: { readonly kind: Kind }): FormatRefusal | undefined {
  if (typeof format !== "object" || format === null || Array.isArray(format)) {
    return refuse("invalid", "format", `must be an object, not ${show(format)}`, `it has a kind, one of ${Object.keys(kinds).join(", ")}`);
  }
  return badKind(kinds, format.kind) ?? badFields(kinds[format.kind], format);
}

/** Any value, short enough for a message. */
function show(value: unknown): string {
  if (value === undefined) return "absent";
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  return typeof value === "function" ? "a function" : String(value).slice(0, 40);
}

function badKind(kinds: object, kind: unknown): FormatRefusal | undefined {
  const field = "format.kind";
  const hint = `kinds are ${Object.keys(kinds).join(", ")}`;
  if (typeof kind !== "string") return refuse("invalid", field, `must be a string, not ${show(kind)}`, hint);
  return Object.hasOwn(kinds, kind) ? undefined : refuse("unsupported", field, `"${show(kind)}" is not known`, hint);
}

function badFields(rules: Readonly<Record<string, Rule>>, given: { readonly kind: string }): FormatRefusal | undefined {
  const names = Object.keys(rules);
  const hint = `${given.kind} has ${names.join(", ")}`;
  for (const [name, value] of Object.entries(given)) {
    if (name === "kind" || (Object.hasOwn(rules, name) && value === undefined)) continue;
    if (!Object.hasOwn(rules, name)) return refuse("invalid", `format.${name}`, `is no field of ${given.kind}`, hint);
    if (!rules[name]!.holds(value)) return refuse("invalid", `format.${name}`, `must be ${rules[name]!.must}, not ${show(value)}`, hint);
  }
  const missing = names.find((name) => !rules[name]!.optional && (given as Record<string, unknown>)[name] === undefined);
  return missing === undefined ? undefined : refuse("invalid", `format.${missing}`, `is missing: ${rules[missing]!.must}`, hint);
}

/** The table lies at a multiple of 2^lg2, below 2^width. */
export function badAddress(addr: bigint, lg2: number, width: number): FormatRefusal | undefined {
  if (addr >> BigInt(width) !== 0n) {
    return refuse("invalid", "addr", `must be below 2^${width}, not 0x${addr.toString(16)}`, "it is an address in the parent");
  }
  if (BigInt.asUintN(lg2, addr) === 0n) return undefined;
  return refuse("invalid", "addr", `must be a multiple of ${2 ** lg2}, not 0x${addr.toString(16)}`, "a table is aligned to its size");
}

// Lint: typescript-eslint's recommended rules, and the direction of imports. assembly/ is AssemblyScript: tsc checks it.
import tseslint from "typescript-eslint";

/** Layers of src/, from the bottom up. A file imports its own layer and those below it. */
const LAYERS = ["engine", "iommu", "uapi", "dma", "threads", "trace", "vectors", "scenario", "cli"];
/** Above threads: puts the layers together. trace, scenario and cli use it. */
const ASSEMBLED = ["create-host", "host-device", "host-devices", "index"];

/** Those that stand side by side: none imports another. */
const BESIDE = { vectors: ["trace"], scenario: ["trace", "vectors"] };
/** Where Node modules and dependencies may be imported. */
const WITH_MODULES = ["src/trace/**", "src/vectors/**", "src/scenario/read-node.ts", "src/cli/**"];

const layerRules = LAYERS.map((layer, level) => {
  const above = [...LAYERS.slice(level + 1), ...(BESIDE[layer] ?? [])].map((name) => ({ group: [`**/${name}/**`], message: `${layer}/ is below ${name}/` }));
  const joined = level <= LAYERS.indexOf("threads") ? ASSEMBLED.map((name) => ({ group: [`**/${name}.js`], message: `${layer}/ is below ${name}` })) : [];
  const restrict = (patterns) => ({ "no-restricted-imports": ["error", { patterns }] });
  const files = [`src/${layer}/**/*.ts`];
  return [
    { files, rules: restrict([...above, ...joined]) },
    { files, ignores: WITH_MODULES, rules: restrict([...above, ...joined, { regex: "^[^.]", message: "the library imports no module" }]) },
  ];
}).flat();

export default tseslint.config(
  { ignores: ["dist", "build", "node_modules", "coverage", "assembly", "src/engine/layout.ts"] },
  ...tseslint.configs.recommended,
  { files: ["**/*.ts"], rules: { "@typescript-eslint/no-non-null-assertion": "off" } },
  ...layerRules,
  { files: ["src/create-host.ts", "src/host-device*.ts", "src/index.ts"], rules: { "no-restricted-imports": ["error", { patterns: [
    { group: ["**/trace/**", "**/vectors/**", "**/scenario/**", "**/cli/**"], message: "the library is below trace/, vectors/, scenario/ and cli/" }, { regex: "^[^.]", message: "the library imports no module" },
  ] }] } },
);

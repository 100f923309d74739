// Lint: typescript-eslint's recommended rules, and the direction of imports. assembly/ is AssemblyScript: tsc checks it.
import tseslint from "typescript-eslint";

/** Layers of src/, from the bottom up. A file imports its own layer and those below it. */
const LAYERS = ["engine", "iommu", "uapi", "dma", "threads", "trace", "vectors", "cli"];
/** Above threads: puts the layers together. trace and cli use it. */
const ASSEMBLED = ["create-host", "index"];

/** Two that stand side by side: neither imports the other. */
const BESIDE = { vectors: ["trace"] };

const layerRules = LAYERS.map((layer, level) => {
  const above = [...LAYERS.slice(level + 1), ...(BESIDE[layer] ?? [])].map((name) => ({ group: [`**/${name}/**`], message: `${layer}/ is below ${name}/` }));
  const joined = level <= LAYERS.indexOf("threads") ? ASSEMBLED.map((name) => ({ group: [`**/${name}.js`], message: `${layer}/ is below ${name}` })) : [];
  const modules = ["trace", "vectors", "cli"].includes(layer) ? [] : [{ regex: "^[^.]", message: "the library imports no module" }];
  return { files: [`src/${layer}/**/*.ts`], rules: { "no-restricted-imports": ["error", { patterns: [...above, ...joined, ...modules] }] } };
});

export default tseslint.config(
  { ignores: ["dist", "build", "node_modules", "coverage", "assembly", "src/engine/layout.ts"] },
  ...tseslint.configs.recommended,
  { files: ["**/*.ts"], rules: { "@typescript-eslint/no-non-null-assertion": "off" } },
  ...layerRules,
  { files: ["src/create-host.ts", "src/index.ts"], rules: { "no-restricted-imports": ["error", { patterns: [
    { group: ["**/trace/**", "**/vectors/**", "**/cli/**"], message: "the library is below trace/, vectors/ and cli/" }, { regex: "^[^.]", message: "the library imports no module" },
  ] }] } },
);

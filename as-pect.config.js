// The engine's own specs, compiled by AssemblyScript and run on a shared memory.
export default {
  entries: ["assembly/__tests__/**/*.spec.ts"],
  include: ["assembly/__tests__/**/*.include.ts"],
  disclude: [/node_modules/],
  async instantiate(_memory, createImports, instantiate, binary) {
    const shared = new WebAssembly.Memory({ initial: 16, maximum: 65536, shared: true });
    return instantiate(binary, createImports({ env: { memory: shared } }));
  },
  outputBinary: false,
};

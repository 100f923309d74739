// The export list of the engine. Every export takes the address of its state first: the engine header or a port.
export { createEngine } from "./engine";
export { addSlot, removeSlot, slotAt } from "./memory";
export { inSection, pause, waitAgain } from "./change";
export { internRoute } from "./route";
export { attachRoute, blockRoute, identityRoute } from "./attach";
export { attachPasidTable, createPasidTable, destroyPasidTable, dropPasids, invalidatePasid } from "./pasid-table";
export { canTakeTables, createDomain, destroyDomain, flushDomain, invalidateDomain, map, unmap, walk } from "./domain";
export { checkUnmaps, mapMany, planMany, putMany, unmapMany } from "./lists";
export { collectDirty, leafRuns, merge, mergeMany, planMerge, putMerge, trackDirty } from "./shadow";
export { addThread, closePort, endThread, enter, leave, openPort, portBytes } from "./port";
export { translate, translateHalves, translateNumber } from "./translate";

export function randomBelow(seed: number): (n: number) => number;

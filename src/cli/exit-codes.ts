// What the command's exit codes mean. Imports nothing.
export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;
export const EXIT_MISMATCH = 3;

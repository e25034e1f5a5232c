/** What `parse` finds. Who asks for help gets the usage and nothing else; so does, as an error, who gives options that there are not. */
export function orUsage<T extends { readonly values: { readonly help?: boolean | undefined } }>(usage: string, parse: () => T): T {
  let parsed: T;
  try {
    parsed = parse();
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}`);
    return process.exit(2);
  }
  if (parsed.values.help !== true) return parsed;
  process.stdout.write(usage);
  return process.exit(0);
}

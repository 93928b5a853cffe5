// The viewer's JavaScript must stay under 250 kB gzipped.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const BOUND = 250_000;
const folder = join(process.argv[2] ?? 'dist', 'assets');
const size = readdirSync(folder)
  .filter((name) => name.endsWith('.js'))
  .reduce((sum, name) => sum + gzipSync(readFileSync(join(folder, name))).length, 0);
console.log(`JavaScript: ${(size / 1000).toFixed(1)} kB gzipped of ${BOUND / 1000} kB allowed`);
process.exitCode = size <= BOUND ? 0 : 1;

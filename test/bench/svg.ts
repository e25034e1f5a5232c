// The little of SVG that the bench's pictures are made of.
export const WIDTH = 860;

export function text(x: number, y: number, anchor: 'start' | 'middle' | 'end', words: string): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}">${escaped(words)}</text>`;
}

export function drawing(height: number, parts: readonly string[]): string {
  const open = `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="11" fill="#222">`;
  return `${[open, `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`, ...parts].join('\n')}\n</svg>\n`;
}

function escaped(words: string): string {
  return words.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}

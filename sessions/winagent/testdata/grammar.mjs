// Parses each PowerShell script named on the command line with the grammar of
// tree-sitter-powershell, and prints where one is not PowerShell.
import { readFileSync } from 'node:fs';
import { Language, Parser } from 'web-tree-sitter';

await Parser.init();
const parser = new Parser();
parser.setLanguage(await Language.load('node_modules/tree-sitter-powershell/tree-sitter-powershell.wasm'));

function report(file, node) {
  if (!node.hasError) return;
  if (node.isError || node.isMissing) {
    const { row, column } = node.startPosition;
    console.log(`${file}:${row + 1}:${column + 1}: ${node.isMissing ? 'missing' : 'not understood'}: ${node.text.slice(0, 60) || node.type}`);
    return;
  }
  node.children.forEach((child) => report(file, child));
}
for (const file of process.argv.slice(2)) report(file, parser.parse(readFileSync(file, 'utf8')).rootNode);

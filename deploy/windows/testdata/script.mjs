// Parses a PowerShell script with the grammar of tree-sitter-powershell and
// prints, as JSON, where it is not PowerShell and which commands it calls.
import { readFileSync } from 'node:fs';
import { Language, Parser } from 'web-tree-sitter';

await Parser.init();
const parser = new Parser();
parser.setLanguage(await Language.load('node_modules/tree-sitter-powershell/tree-sitter-powershell.wasm'));
const root = parser.parse(readFileSync(process.argv[2], 'utf8')).rootNode;
const result = { errors: [], calls: [], functions: [], types: [] };

// The nearest condition that a node runs under only if it is true, outwards.
function conditions(node) {
  const found = [];
  for (let child = node, parent = node.parent; parent; child = parent, parent = parent.parent) {
    if (parent.type !== 'if_statement' && parent.type !== 'elseif_clause') continue;
    const body = parent.namedChildren.find((n) => n.type === 'statement_block');
    if (body && body.id === child.id) {
      found.push(parent.namedChildren.find((n) => n.type === 'pipeline').text);
    }
  }
  return found;
}

function enclosing(node) {
  for (let n = node.parent; n; n = n.parent) {
    if (n.type === 'function_statement') return n.namedChildren.find((c) => c.type === 'function_name').text;
  }
  return '';
}

function walk(node) {
  if (node.isError || node.isMissing) {
    result.errors.push(`line ${node.startPosition.row + 1}: ${node.isMissing ? 'missing' : 'not understood'} ${node.text.slice(0, 60)}`);
    return;
  }
  if (node.type === 'command') {
    const name = node.namedChildren.find((n) => n.type === 'command_name');
    if (name) {
      result.calls.push({ line: node.startPosition.row + 1, name: name.text, text: node.text, in: enclosing(node), under: conditions(node) });
    }
  }
  if (node.type === 'function_name') result.functions.push(node.text);
  if (node.type === 'type_literal') result.types.push(node.text);
  node.children.forEach(walk);
}
walk(root);
console.log(JSON.stringify(result));

# SPDX-License-Identifier: Apache-2.0
"""Compares the tables of docs/protocol.md with lib/layout.h, as the compiler sees it.

Usage: check_layout.py PAGE LAYOUT_H INCLUDE_DIRECTORY COMPILER [ARGUMENT ...]

Every field of every shared struct stands in the page once, with its offset and size. So do the bit fields of packed
words and every constant. Arrays without a fixed length give the size of one element: "256 each".
"""
import os
import re
import subprocess
import sys
import tempfile

# Words that several fields share: for each part, what all ones in it look like. These structs are not shared memory.
PACKED = {
    'layout_claim_encode': {
        'lap': 'layout_claim_encode((struct layout_claim){.lap = layout_claim_decode(all).lap})',
        'state': 'layout_claim_encode((struct layout_claim){.state = layout_claim_decode(all).state})',
        'deliveries': 'layout_claim_encode((struct layout_claim){.deliveries = layout_claim_decode(all).deliveries})',
        'slot': 'layout_claim_encode((struct layout_claim){.slot = layout_claim_decode(all).slot})',
        'incarnation': 'layout_claim_encode((struct layout_claim){.incarnation = layout_claim_decode(all).incarnation})',
    },
    'layout_cursor_encode': {
        'sequence': 'layout_cursor_encode(layout_cursor_sequence(all), 0)',
        'incarnation': 'layout_cursor_encode(0, (uint32_t)all)',
    },
    'layout_ticket_encode': {
        'number': 'layout_ticket_encode(layout_ticket_number(all), 0)',
        'incarnation': 'layout_ticket_encode(0, layout_ticket_incarnation(all))',
    },
    'layout_member_word': {
        'state': 'layout_member_word(0, 0, layout_member_state(all))',
        'role': 'layout_member_word(0, layout_member_role(all), 0)',
        'incarnation': 'layout_member_word(layout_member_incarnation(all), 0, 0)',
    },
}
PRIVATE_STRUCTS = {'layout_claim': 'layout_claim_encode'}

errors = []


def complain(path, line, text):
    errors.append(f'{path}:{line}: {text}')


# ---- the header ----

def without_comments(text):
    return re.sub(r'/\*.*?\*/', lambda match: re.sub(r'[^\n]', ' ', match.group()), text, flags=re.S)


def matching_brace(text, opening):
    depth = 0
    for i in range(opening, len(text)):
        depth += {'{': 1, '}': -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise ValueError('unbalanced braces')


def parse_fields(body, prefix=''):
    """Yields (path, is_open_ended) for each field; members of a nested struct or union come under its name."""
    position = 0
    while body[position:].strip():
        nested = re.compile(r'\s*(?:struct|union)\s*\{').match(body, position)
        if nested:
            end = matching_brace(body, nested.end() - 1)
            name = re.compile(r'\s*(\w+)\s*;').match(body, end + 1)
            yield from parse_fields(body[nested.end():end], prefix + name.group(1) + '.')
            position = name.end()
            continue
        end = body.index(';', position)
        declaration = ' '.join(body[position:end].split())
        position = end + 1
        match = re.fullmatch(r'(?:(?:const|unsigned|struct|enum|union) )*\w+ (\w+) ?((?:\[[^\]]*\])*)', declaration)
        if not match:
            raise ValueError(f'cannot read the field "{declaration}"')
        yield prefix + match.group(1), match.group(2) in ('[]', '[1]')


def parse_header(path):
    text = without_comments(open(path, encoding='utf-8').read())
    structs = {}
    for match in re.finditer(r'\bstruct (\w+) \{', text):
        end = matching_brace(text, match.end() - 1)
        line = text.count('\n', 0, match.start()) + 1
        structs[match.group(1)] = (line, list(parse_fields(text[match.end():end])))
    constants = {}
    for match in re.finditer(r'^#define (LAYOUT_\w+)(\()?', text, flags=re.M):
        constants[match.group(1) + (match.group(2) or '')] = text.count('\n', 0, match.start()) + 1
    for match in re.finditer(r'\benum \w+ \{([^}]*)\}', text):
        for item in match.group(1).split(','):
            if item.strip():
                constants[item.split('=')[0].strip()] = text.count('\n', 0, match.start()) + 1
    return structs, constants


# ---- the page ----

def cells_of(line):
    return [cell.strip() for cell in re.split(r'(?<!\\)\|', line.strip())[1:-1]]


def number(text):
    power = re.fullmatch(r'2\^(\d+)', text)
    try:
        return 2 ** int(power.group(1)) if power else int(text, 0)
    except ValueError:
        return None


def parse_page(path):
    """Yields (heading, column names, line number, cells) for each row of each table."""
    heading, columns = '', None
    for line_number, line in enumerate(open(path, encoding='utf-8'), 1):
        if line.startswith('#'):
            heading = line.strip('# \n')
        if not line.startswith('|'):
            columns = None
        elif columns is None:
            columns = cells_of(line)
        elif not re.fullmatch(r'[|:\- ]+', line.strip()):
            yield heading, columns, line_number, cells_of(line)


def read_page(path):
    structs, packed, constants = {}, {}, []
    for heading, columns, line, cells in parse_page(path):
        names = re.findall(r'`(?:struct )?(\w+)`', heading)
        name = names[0] if names else None
        if len(cells) != len(columns):
            complain(path, line, f'{len(cells)} cells under {len(columns)} column names')
        elif columns == ['offset', 'size', 'field', 'writer', 'reader and order', 'meaning']:
            if not all(cells):
                complain(path, line, 'an empty cell')
            size = re.search(r'\((\d+) bytes', heading)
            structs.setdefault(name, (line, size and int(size.group(1)), []))[2].append((line, cells[:3]))
        elif columns[:2] == ['bits', 'part']:
            packed.setdefault(name, []).append((line, cells[:2]))
        elif columns[:2] == ['constant', 'value']:
            constants.append((line, cells[:2]))
    return structs, packed, constants


# ---- what the compiler says ----

def ask_compiler(header, include, compiler, structs, expressions):
    """Returns a dict from each expression's text to its value."""
    questions = dict.fromkeys(expressions)
    for name, (_, fields) in structs.items():
        questions[f'sizeof(struct {name})'] = None
        for field, is_open_ended in fields:
            questions[f'offsetof(struct {name}, {field})'] = None
            questions[f'sizeof(((struct {name} *)0)->{field}{"[0]" if is_open_ended else ""})'] = None
    lines = [f'\tprintf("%s %llu\\n", {quoted(text)}, (unsigned long long)({text}));' for text in questions]
    program = ('#include <stdio.h>\n#include "layout.h"\nint main(void)\n{\n\tconst uint64_t all = ~UINT64_C(0);\n'
               '\t(void)all;\n' + '\n'.join(lines) + '\n\treturn 0;\n}\n')
    with tempfile.TemporaryDirectory() as folder:
        source, binary = os.path.join(folder, 'offsets.c'), os.path.join(folder, 'offsets')
        with open(source, 'w', encoding='utf-8') as file:
            file.write(program)
        command = compiler + ['-std=gnu11', '-D_GNU_SOURCE', '-w', '-I', os.path.dirname(header), '-I', include, source,
                              '-o', binary]
        subprocess.run(command, check=True)
        output = subprocess.run([binary], check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
    return {text: int(value) for text, value in (line.rsplit(' ', 1) for line in output.splitlines())}


def quoted(text):
    return '"' + text.replace('\\', '\\\\').replace('"', '\\"') + '"'


# ---- comparing ----

def compare_struct(page, header, name, header_struct, page_struct, values):
    line, fields = header_struct
    if page_struct is None:
        complain(header, line, f'struct {name} has no table in {page}')
        return
    table_line, size, rows = page_struct
    true_size = values[f'sizeof(struct {name})']
    if size != true_size:
        complain(page, table_line, f'the heading gives struct {name} {size} bytes, it has {true_size}')
    is_open_ended = dict(fields)
    seen = set()
    for row_line, (offset, size_text, field) in rows:
        field = field.strip('`')
        if field not in is_open_ended:
            complain(page, row_line, f'struct {name} has no field {field}')
            continue
        if field in seen:
            complain(page, row_line, f'field {field} of struct {name} for the second time')
        seen.add(field)
        each = ' each' if is_open_ended[field] else ''
        true_offset = values[f'offsetof(struct {name}, {field})']
        true_size = values[f'sizeof(((struct {name} *)0)->{field}{"[0]" if each else ""})']
        if number(offset) != true_offset:
            complain(page, row_line, f'offset of {field} is {true_offset:#x}, not {offset}')
        if size_text != f'{true_size}{each}':
            complain(page, row_line, f'size of {field} is {true_size}{each}, not {size_text}')
    for field, _ in fields:
        if field not in seen:
            complain(header, line, f'field {field} of struct {name} is not in {page}')


def bits_of(mask):
    low = (mask & -mask).bit_length() - 1
    high = mask.bit_length() - 1
    return f'{low}-{high}' if high > low else str(low)


def compare_packed(page, packed, values):
    for name, parts in PACKED.items():
        rows = {cells[1].strip('`'): (line, cells[0]) for line, cells in packed.get(name, [])}
        for part, expression in parts.items():
            bits = bits_of(values[expression])
            if part not in rows:
                complain(page, 1, f'{name}: no row for {part}, which is bits {bits}')
            elif rows[part][1] != bits:
                complain(page, rows[part][0], f'{name}: {part} is bits {bits}, not {rows[part][1]}')
        for part in rows.keys() - parts.keys():
            complain(page, rows[part][0], f'{name} has no part {part}')


def compare_constants(page, header, constants, rows, values):
    seen = set()
    for line, (name, value) in rows:
        name = name.strip('`')
        key = name[:name.index('(') + 1] if '(' in name else name
        if key in seen:
            complain(page, line, f'{name} for the second time')
        seen.add(key)
        if number(value) != values[name]:
            complain(page, line, f'{name} is {values[name]} ({values[name]:#x}), not {value}')
    for name, line in constants.items():
        if name not in seen:
            complain(header, line, f'{name.rstrip("(")} is not in {page}')


def known_expressions(page, constants, rows):
    """The constants of the page that the headers define too; others are complained about."""
    known = []
    for line, (name, _) in rows:
        name = name.strip('`')
        key = name[:name.index('(') + 1] if '(' in name else name
        if key.startswith('SLUICE_') or key in constants:
            known.append(name)
        else:
            complain(page, line, f'no header defines {name}')
    return known


def main():
    page, header, include, compiler = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    structs, constants = parse_header(header)
    page_structs, packed, constant_rows = read_page(page)
    for private, encoder in PRIVATE_STRUCTS.items():
        _, fields = structs.pop(private)
        if {field for field, _ in fields} != PACKED[encoder].keys():
            complain(header, 1, f'struct {private} has other fields than this script knows')
    known = known_expressions(page, constants, constant_rows)
    expressions = known + [text for parts in PACKED.values() for text in parts.values()]
    values = ask_compiler(header, include, compiler, structs, expressions)
    for name, struct in structs.items():
        compare_struct(page, header, name, struct, page_structs.get(name), values)
    for name in page_structs.keys() - structs.keys():
        complain(page, page_structs[name][0], f'{header} has no struct {name}')
    compare_packed(page, packed, values)
    compare_constants(page, header, constants, [row for row in constant_rows if row[1][0].strip('`') in known], values)
    for error in errors:
        print(error)
    fields = sum(len(fields) for _, fields in structs.values())
    print(f'{len(structs)} structs, {fields} fields, {len(constants)} constants: {len(errors)} differences')
    return 1 if errors else 0


sys.exit(main())

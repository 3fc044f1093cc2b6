# SPDX-License-Identifier: Apache-2.0
"""Compares the table of ordering pairs in docs/protocol.md with the labels in lib/.

Usage: check_pairs.py PAGE LIBRARY_DIRECTORY

In lib/, every atomic access stronger than relaxed has a comment that defines a label ("P1: publish, pairs with C1 in
lane_reader_look"), in the same statement or directly above it; every relaxed one has a comment with "relaxed:". A site
that repeats a label may say "as in FUNCTION". In the page, each label has one row: where it is, with which operation,
which labels it pairs with.
"""
import glob
import os
import re
import sys

ACCESS = re.compile(r'\b(atomic_(?:load|store|exchange|add|or|and|swap|fence)_\w+)\s*\(')
BUILTIN = re.compile(r'\b__(?:atomic|sync)_\w+|\b_Atomic\b|\batomic_thread_fence\b')
LABEL = re.compile(r'\b[A-Z]\d\b')
DEFINITION = re.compile(r'\b([A-Z]\d):')
PARTNERS = re.compile(r'pairs with ([^.:;]*)')
PARTNER = re.compile(r'\b([A-Z]\d)\b(?: in (\w+))?')

errors = []


def complain(path, line, text):
    errors.append(f'{path}:{line}: {text}')


# ---- C, as far as needed ----

class Source:
    """A file with its comments taken out: `code` has blanks instead, so that positions and lines stay."""

    def __init__(self, path):
        self.path = path
        text = open(path, encoding='utf-8').read()
        self.comments = []  # (first line, last line, text, stands alone)
        tokens = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|^[ \t]*#(?:\\\n|[^\n])*', re.S | re.M)
        self.text = text
        self.code = tokens.sub(self.blank, text)
        self.functions = list(self.find_functions())

    def blank(self, match):
        token = match.group()
        if token.startswith('/*'):
            first = self.line_of(match.start(), self.text)
            before = self.text[self.text.rfind('\n', 0, match.start()) + 1:match.start()]
            content = ' '.join(re.sub(r'^\s*\* ?', '', line) for line in token[2:-2].split('\n'))
            self.comments.append((first, first + token.count('\n'), ' '.join(content.split()), not before.strip()))
        return re.sub(r'[^\n]', ' ', token)

    @staticmethod
    def line_of(position, text):
        return text.count('\n', 0, position) + 1

    def find_functions(self):
        """Yields (name, first line, last line): what stands in braces at the top level behind a parenthesis."""
        depth, start = 0, 0
        for match in re.finditer(r'[{};]', self.code):
            if match.group() == '{':
                name = re.search(r'(\w+)\s*\(', self.code[start:match.start()]) if depth == 0 else None
                if depth == 0:
                    current = (name.group(1), self.line_of(start + name.start(), self.code)) if name else None
                depth += 1
            elif match.group() == '}':
                depth -= 1
                if depth == 0 and current:
                    yield current + (self.line_of(match.start(), self.code),)
            if depth == 0:
                start = match.end()

    def function_at(self, line):
        """The function around a line, or None."""
        for name, first, last in self.functions:
            if first <= line <= last:
                return name
        return None

    def statement_at(self, position):
        """First and last line of the statement around a position."""
        start = max(self.code.rfind(mark, 0, position) for mark in ';{}') + 1
        start += len(self.code[start:position]) - len(self.code[start:position].lstrip())
        end = min((self.code.find(mark, position) for mark in ';{' if self.code.find(mark, position) >= 0))
        return self.line_of(start, self.code), self.line_of(end, self.code)

    def comments_of(self, first, last):
        """Comments in those lines, and the one that ends on the line above and stands alone."""
        found = [text for begin, end, text, _ in self.comments if first <= begin <= last]
        above = [text for _, end, text, alone in self.comments if end == first - 1 and alone]
        return above + found


# ---- the code ----

class Site:
    def __init__(self, source, line, function, text):
        self.path, self.file, self.line, self.function, self.text = (
            source.path, os.path.basename(source.path), line, function, text)
        self.operations = set()


def read_sites(source, sites):
    """Definitions of labels in a file, whether an access belongs to them or not."""
    for first, last, text, _ in source.comments:
        for label in DEFINITION.findall(text):
            function = source.function_at(last)
            if function is None:
                complain(source.path, first, f'{label} is defined outside any function')
            sites.setdefault(label, []).append(Site(source, first, function, text))


def read_accesses(source, sites):
    for match in BUILTIN.finditer(source.code):
        complain(source.path, source.line_of(match.start(), source.code), f'{match.group()} outside atomic.h')
    explained_relaxed = 0  # last line of a relaxed access that was explained
    count = 0
    for match in ACCESS.finditer(source.code):
        count += 1
        name = match.group(1)
        line = source.line_of(match.start(), source.code)
        first, last = source.statement_at(match.start())
        comments = source.comments_of(first, last)
        if name.endswith('_relaxed'):
            if any('relaxed:' in text for text in comments) or explained_relaxed == first - 1:
                explained_relaxed = last
            else:
                complain(source.path, line, f'{name} without a comment "relaxed: why"')
            continue
        labels = [label for text in comments for label in DEFINITION.findall(text)]
        if not labels:
            complain(source.path, line, f'{name} without a label')
        for label in labels:
            for site in sites[label]:
                if site.path == source.path and site.text in comments and site.function == source.function_at(line):
                    site.operations.add(name)
    return count


def own_text(text, label):
    """The part of a comment that belongs to one of the labels that it defines."""
    parts = re.split(r'\b([A-Z]\d):', text)
    return parts[parts.index(label) + 1]


# ---- the page ----

def read_page(path):
    """Returns a dict from label to (line, set of (file, function), set of operations, set of partners)."""
    rows = {}
    columns = None
    for number, line in enumerate(open(path, encoding='utf-8'), 1):
        if not line.startswith('|'):
            columns = None
            continue
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')]
        if columns is None:
            columns = cells
        elif columns[:4] == ['label', 'where', 'operation', 'pairs with'] and not set(line.strip()) <= set('|-: '):
            label, where, operation, partners = cells[:4]
            if label in rows:
                complain(path, number, f'{label} has a second row')
            names = re.findall(r'`([\w.]+)`', where)
            if len(names) % 2 != 0 or not names or not all(cells):
                complain(path, number, f'{label}: "where" must name a file and a function, and no cell may be empty')
            rows[label] = (number, set(zip(names[::2], names[1::2])), set(re.findall(r'`(atomic_\w+)`', operation)),
                           set(LABEL.findall(partners)))
    return rows


# ---- comparing ----

def compare_page(page, rows, sites):
    for label, (line, where, operations, partners) in rows.items():
        found = sites.get(label, [])
        if not found:
            complain(page, line, f'{label} is nowhere in lib/')
            continue
        in_code = {(site.file, site.function) for site in found}
        for file, function in where - in_code:
            complain(page, line, f'{label} is not in {function} of {file}')
        for site in found:
            if (site.file, site.function) not in where:
                complain(site.path, site.line, f'{label} in {site.function}, which its row in {page} does not name')
        in_code = set().union(*(site.operations for site in found))
        if operations != in_code:
            complain(page, line, f'{label}: operation {sorted(operations)}, in lib/ {sorted(in_code)}')
        if not partners:
            complain(page, line, f'{label} has no partner')
        for partner in partners:
            if partner not in rows:
                complain(page, line, f'{label} pairs with {partner}, which has no row')
            elif label not in rows[partner][3]:
                complain(page, line, f'{label} pairs with {partner}, but {partner} not with {label}')


def compare_comments(rows, sites):
    functions = {label: {site.function for site in found} for label, found in sites.items()}
    for label, found in sites.items():
        named = set()
        for site in found:
            text = own_text(site.text, label)
            for partner, function in (pair for part in PARTNERS.findall(text) for pair in PARTNER.findall(part)):
                named.add(partner)
                if function and function not in functions.get(partner, ()):
                    complain(site.path, site.line, f'{label} pairs with {partner} in {function}, where there is none')
            for function in re.findall(r'\bas in (\w+)', text):
                if function not in functions[label]:
                    complain(site.path, site.line, f'{label} "as in {function}", where there is none')
        if label not in rows:
            complain(found[0].path, found[0].line, f'{label} has no row in the page')
        elif named != rows[label][3]:
            complain(found[0].path, found[0].line,
                     f'{label} pairs with {sorted(named)} in lib/, with {sorted(rows[label][3])} in the page')


def main():
    page, library = sys.argv[1:]
    paths = sorted(glob.glob(os.path.join(library, '*.[ch]')))
    sources = [Source(path) for path in paths if os.path.basename(path) != 'atomic.h']
    rows, sites, accesses = read_page(page), {}, 0
    for source in sources:
        read_sites(source, sites)
    for source in sources:
        accesses += read_accesses(source, sites)
    compare_page(page, rows, sites)
    compare_comments(rows, sites)
    for source in sources:
        for first, _, text, _ in source.comments:
            for label in set(LABEL.findall(text)) - rows.keys():
                complain(source.path, first, f'{label} has no row in {page}')
    for error in dict.fromkeys(errors):
        print(error)
    print(f'{len(rows)} labels, {accesses} accesses: {len(set(errors))} differences')
    return 1 if errors or not rows or not accesses else 0


sys.exit(main())

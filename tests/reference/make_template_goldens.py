"""Write the goldens of small templates: what jinja2, set up as transformers does for chat templates, makes of them.

    python make_template_goldens.py            # write chat/snippets.json
    python make_template_goldens.py --check    # compare with the file that exists

Each entry holds the template's `source` and either its `text` or `fails: true` where jinja2 raises an error. The
context is that of a conversation: `messages`, `tools`, `documents`, `add_generation_prompt` and two special tokens.
"""

import argparse
import json
import pathlib
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

from reference_json import write_json

PATH = pathlib.Path(__file__).parent / "chat" / "snippets.json"
TOKENS = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  Naïve “ünïcode” 日本 🙂\nsecond line\t<b>\n"},
    {"role": "assistant", "content": "<think>\nHm, {{ a brace }}\n</think>\n\nIt's \"2\"."},
    {"role": "user", "content": "Thanks"},
]
CONTEXT = {"messages": MESSAGES, "tools": None, "documents": None, "add_generation_prompt": True, **TOKENS}

# Expressions, each printed by itself.
EXPRESSIONS = r"""
'a.b.c'.split('.')
'a.b.c'.split('.', 1)
'a.b.c'.split('.', maxsplit=1)
'a.b.c'.rsplit('.', 1)
'a.b.c'.rsplit('.')
'  a  b c '.split()
'  a  b c '.split(none, 1)
'  a  b c '.rsplit()
'  a  b c '.rsplit(none, 1)
'a,b,,c,'.split(',')
''.split()
''.split(',')
'abc'.split('')
'a=b=c'.partition('=')
'a=b=c'.rpartition('=')
'abc'.partition('=')
'abc'.rpartition('=')
'abc'.partition('=')[0]
'abc'.partition('')
'prefix-body'.removeprefix('prefix-')
'prefix-body'.removeprefix('body')
'body.txt'.removesuffix('.txt')
'body.txt'.removesuffix('')
'abcabc'.index('c')
'abcabc'.rindex('c')
'abcabc'.index('c', 3)
'abc'.index('z')
'abc'.rindex('z')
'日本語'.find('語')
'日本語'.find('x')
'abcabc'.find('a', 1)
'abcabc'.find('a', 1, 3)
'abcabc'.find('a', -2)
'abcabc'.rfind('a')
'abcabc'.rfind('a', 0, 3)
'aaaa'.count('aa')
'abc'.count('')
'日本'.count('')
'abcabc'.count('a', 1)
'ab'.ljust(5) ~ '|'
'ab'.ljust(5, '*')
'ab'.rjust(5, '*')
'ab'.rjust(1)
'ab'.center(5, '*')
'ab'.center(6, '*')
'abc'.center(6, '*')
'日本'.center(7, '*')
'ab'.center(5, '**')
'42'.zfill(5)
'-42'.zfill(5)
'+4'.zfill(5)
''.zfill(2)
'a\tb'.expandtabs()
'a\tb\n\tc'.expandtabs(4)
'a\tb'.expandtabs(0)
'Hello Wörld'.swapcase()
'Straße'.casefold()
'Straße'.upper()
'ΑΣ'.lower()
'HELLO'.lower()
'hello wörld it\'s'.title()
'hELLO wORLD'.capitalize()
'ǆ'.capitalize()
'ᾀ ᾳ ﬁ ა'.title()
'नमस्ते'.isalpha()
'Ⅷ'.isalpha()
'ⓐ'.isalpha()
'é'.isalpha()
'नमस्ते'.isidentifier()
'a\nb\r\nc\rd'.splitlines()
'a\nb\n'.splitlines(true)
'a\x0bb\x1cc\u2028d'.splitlines()
''.splitlines()
'abc'.isalpha()
'ab1'.isalpha()
''.isalpha()
'ab1'.isalnum()
'a b'.isalnum()
'123'.isdigit()
'²'.isdigit()
'½'.isnumeric()
'½'.isdigit()
'²'.isdecimal()
'٣'.isdecimal()
'abc'.islower()
'aBc'.islower()
'1'.islower()
'ABC'.isupper()
'Hello World'.istitle()
'Hello world'.istitle()
' \t\n'.isspace()
''.isspace()
'\x1c'.isspace()
'abc'.isascii()
'ä'.isascii()
''.isascii()
'a_1'.isidentifier()
'1a'.isidentifier()
'a\n'.isprintable()
'ab '.isprintable()
'xxabcxx'.strip('x')
'xyabcyx'.strip('xy')
'xyabcyx'.lstrip('xy')
'xyabcyx'.rstrip('xy')
'\x1c a \x1f'.strip() ~ '|'
'\ufeffa\u200b'.strip()|length
' a '.strip(none)
'abc'.startswith('ab')
'abc'.startswith(('x', 'a'))
'abc'.startswith('b', 1)
'abc'.endswith(('x', 'bc'))
'abc'.endswith('b', 0, 2)
'abc'.startswith(['a'])
'aXbXc'.replace('X', '-')
'aXbXc'.replace('X', '-', 1)
'abc'.replace('', '-')
'abc'.replace('', '-', 2)
'-'.join(['a', 'b'])
'-'.join('abc')
'-'.join([1, 2])
', '.join({'a': 1, 'b': 2})
'{} and {}'.format(1, 'b')
'{1} {0} {1}'.format('a', 'b')
'{name}!'.format(name='x')
'{:>5}|{:<5}|{:^5}'.format('a', 'b', 'c')
'{:05.2f}'.format(3.14159)
'{:,}'.format(1234567)
'{:x} {:b} {:o}'.format(255, 5, 8)
'{!r}'.format('a')
'{a[0]} {b.x}'.format(a=[1], b={'x': 2})
'{{}}'.format()
'{:{}}|'.format('a', 3)
'{0.x[1]}'.format({'x': [1]})
'{} {}'.format('a')
'{}'.format(1e20)
'{}'.format([1, 'a'])
'{!s:>3}'.format(1)
'%*d|%-*d|' % (4, 1, 4, 2)
'%+.1e' % 12345.678
'% d' % 5
'%#o' % 8
'%i %u' % (1, 2)
'%5.1f%%' % 99.95
'%a' % 'é'
'%s %(a)s' % {'a': 1}
'abc'.encode()
'abc'.encode('utf-8').decode('utf-8')
'abc'.translate({97: 'x', 98: none})
'abc'.format_map({'a': 1})
'%s' % 'a'
'%s' % 1
'%s and %s' % ('a', 'b')
'%s' % [1, 'a']
'%s' % none
'%s' % true
'%s' % 1.0
'%d' % 3
'%d' % 3.7
'%5d|%-5d|%05d' % (1, 2, 3)
'%+d' % 5
'%.2f' % 3.14159
'%5.1f|' % 2.25
'%x %X %o %#x' % (255, 255, 8, 255)
'%e' % 12345.678
'%g %g' % (0.0001, 1e20)
'%r' % 'it\'s'
'%c%c' % (65, 'b')
'%%' % ()
'100%% %s' % 'a'
'%(a)s-%(b)d' % {'a': 'x', 'b': 2}
'%s' % {'a': 1}
'%s' % ('a',)
'%5s|%-5s|' % ('a', 'b')
'%.2s' % 'abcdef'
'%s %s' % 'a'
'%s' % ('a', 'b')
'%d' % 'a'
'%s' % 'a' ~ 'b'
'%s' % 'a' + 'b'
'%s' % 'a'|upper
('%s' % 'a')|upper
'a' * 2 ~ '%s' % 'b'
'%s' % ('a' if true else 'b')
'%s%%' % (10 % 4)
7 % 3
-7 % 3
7 % -3
7.5 % 2
-7.5 % 2
2 * 7 % 4 * 3
17 % 10 % 4
7 % 0
10 % 3 is odd
10 % (3 if false else 4)
[7 % 3, {'a': 8 % 3}['a'], (9 % 5)]
true % 2
'%s' % messages[0].role
'abc' is sequence
{'a': 1} is sequence
[1] is sequence
(1, 2) is sequence
1 is sequence
none is sequence
missing is sequence
true is sequence
range(3) is sequence
'abc' is iterable
{'a': 1} is iterable
1 is iterable
missing is iterable
'abc' is mapping
{'a': 1} is mapping
[1] is mapping
messages[0] is mapping
messages[0] is string
messages[0].content is string
1 is string
missing is string
true is number
1.5 is number
'1' is number
1 is integer
true is integer
1.0 is float
1 is float
true is boolean
1 is boolean
true is true
1 is true
false is false
none is none
missing is none
missing is defined
messages is defined
messages[9] is defined
messages[0].tool_calls is defined
messages[0]['tool_calls'] is undefined
'a' is callable
range is callable
'a' is lower
'A' is upper
1 is odd
2 is even
9 is divisibleby 3
1 is eq 1
1 is sameas 1
'a' is in 'abc'
'a' is in ['b']
3 is gt 2
3 is lessthan 2
'upper' is filter
'nope' is filter
'odd' is test
'a' is escaped
[1, 2, 3, 4][::-1]
[1, 2, 3, 4][1:]
[1, 2, 3, 4][:-1]
[1, 2, 3, 4][-2:]
[1, 2, 3, 4][::2]
[1, 2, 3, 4][::-2]
[1, 2, 3, 4][3:0:-1]
[1, 2, 3, 4][-1:-3:-1]
[1, 2, 3, 4][10:]
[1, 2, 3, 4][1:3:]
[1, 2, 3, 4][:]
[1, 2, 3, 4][-9:9]
[1, 2, 3, 4][3:-9:-2]
'abc'[2::-1]
missing[1:]
{'a': 1}[1:]
1[1:]
[1, 2, 3, 4][1:][:-1][::-1]
[[1, 2], [3, 4]][1:][0][:1]
('ab' ~ 'cd')[1:3]
'abcd'[1 + 1:]
'abcd'[:2 * 1]
'abc'.upper()[1:]
-[1, 2][1:][0]
2 * 3 * 4 % 5
2 * -3
1.5 * 2
'-' * (2 - 5)
(1, 2, 3)[::-1]
'abcdef'[::-1]
'abcdef'[-3:]
'abcdef'[1:-1]
'abcdef'[4:1:-1]
'日本語'[1]
'abc'[-1]
'abc'[9]
[1, 2][9]
[1, 2][-1]
messages[::-1][0].content
messages[1:]|length
'ab' * 3
3 * 'ab'
'ab' * 0
'ab' * -1
[1, 2] * 2
[1] * -1
(1, 2) * 2
'a' * 2.0
[1] + [2, 3]
(1,) + (2,)
[1] + (2,)
'a' + 'b'
'a' + 1
1 + 'a'
'a' + none
1 + true
1 + 2.5
7 / 2
6 / 2
7 // 2
-7 // 2
7.0 // 2
1 / 0
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
2 ** 3 ** 2
1 - - 1
+1
1 < 2 < 3
1 < 3 < 2
1 == 1 == 1
3 > 2 >= 2 != 1
'a' < 'b'
'Z' < 'a'
[1, 2] < [1, 3]
(1, 2) < (2,)
1 < 'a'
none < 1
1 == 1.0
1 == true
'1' == 1
[1] == (1,)
{'a': 1} == {'a': 1.0}
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
none == false
missing == none
missing == other
'a' in 'abc'
'' in 'abc'
1 in '123'
'a' in ['a', 'b']
'a' in {'a': 1}
1 in {'a': 1}
'a' not in ['b']
1 in 5
'a' in missing
1 in (1, 2)
1 in range(3)
2.0 in [1, 2]
true and 'x'
'' or 'default'
0 or none
not ''
not 'a'
'a' if true else 'b'
'a' if false
('a' if false) is defined
true
false
none
True
None
missing
1.0
1.5
0.1 + 0.2
1e20
1e16
1e15
123456789012345680.0
1e-5
0.0001
1e-7
-0.0
1.0e300 * 1e10
100000 * 1.0
10 ** 20
1_000
'a' 'b'
'tab\there'
'nl\\n \x41 \u00e9 \U0001F642'
"it's"
'say "hi"'
['it\'s']
['say "hi"']
['it\'s "x"']
['a\nb\t\\']
['é 日本 🙂']
['\u200b\x00\x7f\xa0']
['\ud7ff\ufeff']
[1, 2.0, none, true, 'a', missing]
[1.0e20, 1e-7]
(1, 2)
(1,)
()
[]
{}
{'a': 1, 'b': [none, {'c': 'd\'s'}]}
{1: 'a', none: 'b', true: 'c'}
[(1, 'a'), [2]]
messages[0]
messages[2].content
messages|length
{'a': 1}.items()
{'a': 1, 'b': 2}.keys()
{'a': 1, 'b': 2}.values()
{'a': 1}.items()|list
{'a': 1, 'b': 2}.keys()|list
{'a': 1}.get('a')
{'a': 1}.get('b')
{'a': 1}.get('b', 'x')
{'a': 1}.a
{'a': 1}['b']
{'a': 1}.b.c
{'items': 1}['items']
{'a': 1}.copy()
{'a': 1}.pop('a')
{'a': 1}.update({'b': 2})
{'a': 1}.setdefault('b', 2)
{'a': 1}.clear()
{'a': 1}.popitem()
[1, 2, 1].count(1)
[1, 2, 1].index(2)
[1, 2, 1].index(1, 1)
[1, 2].index(9)
[1, 2].copy()
[1, 2].append(3)
[1, 2].pop()
[1, 2].insert(0, 1)
[1, 2].extend([3])
[1, 2].remove(1)
[1, 2].reverse()
[2, 1].sort()
(1, 2, 1).count(1)
(1, 2, 1).index(2)
(5).bit_length()
(1.0).is_integer()
'a'.nope()
'a'.nope
'a'.__class__
''.__class__.__mro__
messages.__len__
none.a
missing.a
missing['a']
missing()
'abc'|length
'abc'|list
'abc'|first
'abc'|last
''|first
[]|last
'abc'|reverse
[1, 2, 3]|reverse|list
[3, 1, 2]|sort
[3, 1, 2]|sort(reverse=true)
['b', 'A', 'c']|sort
['b', 'A', 'c']|sort(case_sensitive=true)
messages|map(attribute='role')|list
messages|map(attribute='role')|join(', ')
messages|map(attribute='nope', default='-')|join
['a', 'b']|map('upper')|list
['a', 'b']|map('upper')|join
[' a ']|map('trim')|list
messages|selectattr('role', 'equalto', 'user')|list|length
messages|selectattr('role', '==', 'user')|map(attribute='content')|last
messages|selectattr('tool_calls', 'defined')|list
messages|rejectattr('role', 'equalto', 'system')|map(attribute='role')|list
messages|selectattr('role', 'in', ['user'])|list|length
[1, 2, 3, 4]|select('odd')|list
[1, 2, 3, 4]|reject('odd')|list
[0, 1, '', 'a', none]|select|list
[1, 2, 3]|select('gt', 1)|list
messages|groupby('role')|map(attribute='grouper')|list
messages|groupby('role')|map('first')|list
[1, 2, 3, 4, 5]|batch(2)|list
[1, 2, 3, 4, 5]|batch(2, 0)|list
[1, 2, 3, 4, 5]|slice(2)|list
[1, 2, 2, 1]|unique|list
['a', 'A']|unique|list
[1, 2, 3]|sum
messages|sum(attribute='x')
[[1], [2]]|sum(start=[])
[1, 5, 3]|max
[1, 5, 3]|min
['b', 'A']|min
[]|max
{'b': 1, 'a': 2}|dictsort
{'b': 1, 'a': 2}|dictsort(by='value')
{'b': 1, 'a': 2}|dictsort(reverse=true)
{'a': 1}|items|list
{'b': 1, 'a': 2}|list
{'b': 1, 'a': 2}|length
'hello world'|title
'hello WORLD'|capitalize
'Hello'|upper
'Hello'|lower
'  a '|trim
'xxaxx'|trim('x')
'a b  c'|wordcount
'hello world foo'|truncate(11)
'hello world foo'|truncate(8, true)
'hello world foo'|truncate(8, true, '~', 0)
'hello'|center(11)
'a\nb\n\nc'|indent
'a\nb\n\nc'|indent(2, true)
'a\nb\n\nc'|indent(2, blank=true)
'a\nb'|indent('> ')
'one two three'|wordwrap(7)
'a.b'|replace('.', '-')
'aaa'|replace('a', 'b', 2)
'<b>&"\''|escape
'<b>'|e
'<b>'|safe
'<p>a <b>c</b></p>'|striptags
'a b&c/é'|urlencode
{'a': 'b c', 'd': 1}|urlencode
'%s-%s'|format('a', 1)
'%(a)s'|format(a=1)
'42'|int
'4.7'|int
'abc'|int
'abc'|int(7)
'ff'|int(base=16)
'0x1f'|int(0, 16)
4.9|int
'3.5'|float
'x'|float
1|float
3.14159|round(2)
2.5|round
3.5|round
2.1|round(0, 'ceil')
2.19|round(1, 'floor')
25|round(-1)
-3|abs
1|string
1.0|string ~ 'x'
none|string
true|string
[1, 'a']|string
missing|default('x')
''|default('x')
''|default('x', true)
none|default('x')
none|d('x', true)
missing|length
none|length
[1, 2]|join
[1, none, 2.0, true]|join(', ')
[{'a': 1}, {'a': 2}]|join('-', attribute='a')
['a', ['b']]|join
{'a': {'b': 1}}|attr('a')
messages[0]|attr('role')
[1, 2]|pprint
'a'|pprint
1234|filesizeformat
1000000|filesizeformat(true)
'a'|xmlattr
{'class': 'a', 'id': none}|xmlattr
'a'|forceescape
'see http://a.b/c x'|urlize
{'a': 1}|tojson
{'a': '<é&\'"\\>', 'b': [1, 2.0, none, true]}|tojson
{'a': '<é 🙂'}|tojson(ensure_ascii=true)
{'a': '\x7f\u2028\x01'}|tojson
{'b': {'a': [1, {}], 'c': []}}|tojson(indent=2)
{'b': [1]}|tojson(indent='  ')
{'b': 1, 'a': 2}|tojson(sort_keys=true)
{'b': 1, 'a': [2, 3]}|tojson(separators=(',', ':'))
{'b': 1, 'a': [2, 3]}|tojson(indent=1, separators=(',', '='))
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
(1, 2)|tojson
1e20|tojson
1e16|tojson
1e-7|tojson
0.1|tojson
1.0|tojson
'a/b'|tojson
missing|tojson
[1, missing]|tojson
messages[1]|tojson
10000000000000000000000|tojson
range(3)
range(3)|list
range(1, 10, 3)|list
range(5, 0, -2)|list
range(3)[1]
range(3)|length
dict(a=1, b='c')
dict({'a': 1}, b=2)
dict()
namespace(a=1).a
namespace(a=1)
lipsum is defined
cycler('a', 'b').next()
joiner(', ')()
raise_exception('no')
raise_exception is defined
strftime_now is callable
add_generation_prompt
tools
tools is none
bos_token ~ eos_token
unk_token is defined
'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1, 'a'] ~ missing
1e16 ~ ''
1e-7 ~ ''
1 ~ 2 + 3
1 + 2 ~ 3
'a' ~ 'b' * 2
'a' ~ 'b' == 'ab'
not 'a' ~ 'b'
[1 ~ 2, {'k': 3 ~ 4}.k, (5 ~ 6)]
'a' ~ ('b' if true else 'c') ~ 'd'
'x' ~ 'y'|upper ~ 'z'
'%s' ~ '%' ~ 'a'
'a%b' ~ "c~d" ~ '{{ % }}'
'a'.upper().lower().title()
(1, 2)[0]
[[1, 2], [3]][0][1]
{'a': [1, {'b': 2}]}.a[1].b
messages[0]['content'] == messages[0].content
messages[-1]['content']
messages[1].content.strip().split('\n')[0]
messages[2].content.split('</think>')[-1].lstrip('\n')
messages[2].content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n')
(messages|last).content
(messages|first)['role']|upper
self is defined
loop is defined
caller is defined
""".strip("\n").split("\n")

# Whole templates; a line break in them is a real one.
TEMPLATES = [
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    "a\n  {%- if true -%}\n  b\n  {%- endif -%}\nc",
    "a\n  {%+ if true %}\n  b\n  {%+ endif +%}\nc",
    "a {% if true +%}\nb{% endif %}",
    "  {{ 'a' }}  \n  {{- 'b' -}}  \nc",
    "  {# comment #}  \nx\n  {#- comment -#}  \ny",
    "{# {% if %} {{ #}x",
    "{% raw %}{{ a }} {% b %}{% endraw %}",
    "  {% raw %}  \n {{ a }}\n {% endraw %}  \nx",
    "{%- raw -%}  {{ 1 % 2 ~ 3 }} {%- endraw -%} {{ 5 % 3 }}",
    "{{ 'a' }}\n",
    "{{ 'a' }}\n\n",
    "\n\n{{ 'a' }}",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}c\r\n",
    "{% set x = 5 %}{% if x % 2 == 0 %}even{% else %}odd{% endif %}",
    "{% set x = 5 %}{% if not x % 5 %}five{% elif x % 2 %}odd{% endif %}",
    "{% for m in messages %}{{ loop.index0 % 2 }}{{ '%s:%d ' % (m.role, loop.index) }}{% endfor %}",
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}x{% else %}y{% endif %}{% endfor %}",
    "{% set s = '%s|%s' % ('a', 'b') %}{{ s }}",
    "{% set ns = namespace(n=0) %}{% for i in range(7) %}{% set ns.n = (ns.n + i) % 4 %}{% endfor %}{{ ns.n }}",
    "{% macro m(a, b=7 % 4, c='x' ~ 'y') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(8 % 5) }}{{ m(1, c='%d' % 3) }}",
    "{% for i in range(10) if i % 3 == 0 %}{{ i }}{% endfor %}",
    "{% filter upper %}a{{ 'b' ~ 'c' }}{% endfilter %}",
    "{% with a = 5 % 3, b = 'x' ~ 'y' %}{{ a ~ b }}{% endwith %}",
    "{% set a, b = 7 % 4, 'p' ~ 'q' %}{{ a }}{{ b }}",
    "{{ {'a': 5 % 3, 'b' ~ 'c': 'd' ~ 'e'}['bc'] }}",
    "{{ [1, 2, 3][5 % 3] }}{{ [1, 2, 3][0 : 5 % 3] }}",
    "{{ 'a' ~\n 'b'\n ~ '%s'\n %\n 'c' }}",
    "{{ '%' }}{{ '~' }}{{ \"%s\" % \"%\" }}",
    "{%set x=7%}{%if x%2%}odd{%endif%}",
    "{%- for m in messages -%} {{- m.role -}}{%- if not loop.last -%},{%- endif -%} {%- endfor -%}",
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}"
    "{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }} {% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role }}<{{ m.role }}>{{ loop.nextitem.role }} {% endfor %}",
    "{% for m in messages %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}",
    "{% for m in messages %}{{ loop.cycle('a', 'b') }}{{ loop.changed(m.role) }}{% endfor %}",
    "{% for x in [] %}x{% else %}empty{% endfor %}",
    "{% for x in missing %}x{% else %}none{% endfor %}",
    "{% for x in none %}x{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in {'a': 1, 'b': 2} %}{{ k }}{% endfor %}",
    "{% for c in 'äb' %}{{ c }}.{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for x in [1, [2, [3]]] recursive %}{% if x is number %}{{ x }}{% else %}({{ loop(x) }}){% endif %}{% endfor %}",
    "{% for x in range(5) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1, 2] %}{% for y in [3, 4] %}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{% endfor %}",
    "{% for x in [1, 2] %}{% set y = x %}{% endfor %}{{ y is defined }}",
    "{% set y = 0 %}{% for x in [1, 2] %}{% set y = y + x %}{{ y }}{% endfor %}{{ y }}",
    "{% set ns = namespace(found=false, n=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.found = true %}"
    "{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ ns.found }}{{ ns.n }}",
    "{% set ns = namespace() %}{{ ns.x is defined }}{% set ns.x = 1 %}{{ ns.x }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns['b'] }}",
    "{% set x.y = 1 %}",
    "{% set x = {'a': 1} %}{% set x.a = 2 %}{{ x.a }}",
    "{% set x %}a{{ 1 }}b{% endset %}{{ x }}|{{ x is string }}",
    "{% set x | upper %}ab{% endset %}{{ x }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set loop_messages = messages[1:] %}{{ loop_messages[0]['role'] }}",
    "{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] | trim + '\\n\\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system_message = '' %}{% endif %}{{ system_message }}{{ messages|length }}",
    "{% macro m(x, y='d') %}<{{ x }}{{ y }}{{ varargs }}{{ kwargs }}>{% endmacro %}{{ m(1) }}{{ m(1, 2, 3) }}{{ m(1, z=4) }}",
    "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m() }}{{ m(1, 2) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in{% endcall %}",
    "{% macro m() %}[{{ caller('x') }}]{% endmacro %}{% call(a) m() %}in {{ a }}{% endcall %}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m.name }}{{ m.arguments }}",
    "{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro render_content(content) %}{%- if content is string -%}{{ content }}{%- else -%}"
    "{%- for part in content -%}{{ part.text }}{%- endfor -%}{%- endif -%}{% endmacro %}"
    "{{ render_content('abc') }}{{ render_content([{'text': 'd'}, {'text': 'e'}]) }}",
    "{% generation %}a{% endgeneration %}",
    "{%- generation -%}\n a {%- endgeneration %}\nb",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.role ~ '!' }}{% endgeneration %}{% endif %}{% endfor %}",
    "{{ '{% generation %}' }}",
    "{# {% generation %} #}a",
    "{{ messages[0].content.split('.')[0] ~ '!' }}",
    "{% set content = messages[2].content %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ content }}",
    "{% set last = namespace(i=messages|length - 1) %}{% for m in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}"
    "{% if m.role == 'user' and m.content is string %}{% set last.i = index %}{% endif %}{% endfor %}{{ last.i }}",
    "{% if tools %}t{% elif documents is not none %}d{% else %}n{% endif %}",
    "{% if messages[0].role == 'system' and messages|length > 1 or false %}x{% endif %}",
    "{% if messages[1].get('tool_calls') %}x{% else %}{{ messages[1].get('role') }}{% endif %}",
    "{% if not (add_generation_prompt is defined and add_generation_prompt) %}no{% else %}yes{% endif %}",
    "{{ messages }}",
    "{{ messages | tojson }}",
    "{{ messages[0] | tojson(indent=4) }}",
    "{% set t = {'type': 'function', 'function': {'name': 'f', 'parameters': {'required': ['a'], 'x': none, 'y': 1.50}}} %}"
    "{{ t }}\n{{ t | tojson }}\n{{ t.function.parameters | string }}",
    "{% set x = 'a' %}{{ {'x': x, 'y': [x ~ 1, x + 'b']} }}",
    "{{ [1, 2,] }}{{ (1, 2,) }}{{ {'a': 1,} }}",
    "{{ 1 if messages else 2 }}{{ 1 if '' else 2 }}{{ 1 if [] else 2 }}{{ 1 if {} else 2 }}{{ 1 if 0.0 else 2 }}",
    "{% block b %}x{{ messages|length }}{% endblock %}{{ self.b() }}",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% nope %}",
    "{% if %}",
    "{{ }}",
    "{{ 'a }}",
    "{{ a",
    "{% if true %}x",
    "{% endif %}",
    "{{ nope() }}",
    "{{ 'a'|nope }}",
    "{{ 'a' is nope }}",
    "{{ raise_exception('stop here') }}",
    "{% do messages.append(1) %}",
    "{% set x = [1] %}{% set _ = x.append(2) %}{{ x }}",
    "{% set x = {} %}{% set _ = x.update({'a': 1}) %}{{ x }}",
    "{{ messages[0].role.upper() }}{{ messages[0]['role'].title() }}",
    "{{- bos_token }}{% for message in messages %}{{- '<|' + message['role'] + '|>\\n' }}{{- message['content'] + eos_token }}\n{% endfor %}",
    "{{ 'a' if messages is iterable and messages is not mapping and messages is not string }}",
    "{% for m in messages | selectattr('role', 'equalto', 'user') %}{{ m.content | trim }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for role, group in messages | groupby('role') %}{{ role }}:{{ group | length }} {% endfor %}",
    "{% for row in [1, 2, 3] | batch(2, '-') %}{{ row | join(',') }};{% endfor %}",
    "{% for i in range(3) | reverse %}{{ i }}{% endfor %}",
    "{% set items = ['a', 'b'] %}{% set items = items + ['c'] %}{{ items }}{{ items[-1] }}{{ items | length }}{{ items is sequence }}",
    "{% set d = dict(a=1) %}{% set d = dict(d, b=2) %}{{ d }}",
    "{{ {'a': 1} | items | list }}{% for k, v in {'a': 1} | dictsort %}{{ k }}{{ v }}{% endfor %}",
    "{%- if false %}\n{%- elif true %}\n  x\n{%- endif %}\n\ny",
    "line {{ 1 }} \t\n  {%- set a = 1 %}\n\n{{ a }}",
    "{{ 'multi\nline' }}",
    "\u00a0{% if true %}\nx{% endif %}",
]


def render(source: str) -> dict[str, object]:
    try:
        return {"source": source, "text": _compile_jinja_template.__wrapped__(source).render(**CONTEXT)}
    except Exception:  # noqa: BLE001 - whatever a template raises is a failure of the template
        return {"source": source, "fails": True}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file would change")
    arguments = parser.parse_args()
    sources = ["{{ " + expression + " }}" for expression in EXPRESSIONS] + TEMPLATES
    assert len(set(sources)) == len(sources), [source for source in sources if sources.count(source) > 1]
    golden = {"tokens": TOKENS, "messages": MESSAGES, "snippets": [render(source) for source in sources]}
    if not arguments.check:
        write_json(PATH, golden)
        return 0
    same = json.loads(PATH.read_text(encoding="utf-8")) == golden
    if not same:
        print(f"{PATH.name} would change")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

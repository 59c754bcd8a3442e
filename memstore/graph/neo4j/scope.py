"""Namespace isolation: adds the namespace to every node pattern of every Cypher statement.

`scoped` rewrites `(q:Query {id: $id})` to `(q:Query {namespace: $memstore_namespace, id: $id})` in MATCH, CREATE and
MERGE, and in subqueries, comprehensions and pattern predicates. The rest follows from two facts: relationships connect
only nodes that a statement has matched or created, so none leaves its namespace; and a node value comes from a pattern.
A statement therefore reads and writes one namespace. (A node without label and properties is left unchanged if a
relationship joins it to one that has them.)

Constructs that could bypass this are refused: procedures, schema commands, plug-in functions, files, other databases;
the property `namespace` in a map or in SET and REMOVE; all properties of a node given as one map; and every construct
that this module cannot parse. Information about the whole server is not hidden (query times, property keys listed by
`keys(n)`), and the user's password opens the whole database to any other client. Namespaces on one server keep projects
apart; they do not protect secrets.
"""

from __future__ import annotations

from functools import lru_cache

from memstore.errors import InputError
from memstore.graph.neo4j.tokens import Tokens

PROPERTY = "namespace"
PARAMETER = "memstore_namespace"

_PATTERN = {"MATCH", "CREATE", "MERGE", "INSERT"}
_CLAUSES = _PATTERN | {
    *("OPTIONAL", "WHERE", "WITH", "RETURN", "UNWIND", "ORDER", "SKIP", "OFFSET", "LIMIT", "UNION", "CALL", "FOREACH"),
    *("SET", "REMOVE", "DELETE", "DETACH", "NODETACH", "ON", "USING", "FINISH"),
}
_START = {"EXPLAIN", "PROFILE"}
_REFUSED = _PATTERN | {"CALL", "USE", "LOAD", "SHOW", "TERMINATE"}
"""Keywords that no expression contains, except as names."""
_SUBQUERY = {"EXISTS", "COUNT", "COLLECT"}
_PATH_FUNCTIONS = {"SHORTESTPATH", "ALLSHORTESTPATHS"}
_OWN_FUNCTIONS = {"date", "datetime", "duration", "localdatetime", "localtime", "point", "time", "vector"}
"""First parts of dotted names of built-in functions; any other belongs to a plug-in."""


@lru_cache(maxsize=1024)
def scoped(query: str) -> str:
    """Add the namespace to every node pattern of a query; pass the namespace as `PARAMETER`.

    Raises:
        InputError: the query could leave its namespace, or cannot be parsed.
    """
    return _Scope(query).rewrite()


class _Scope:
    """One pass over the tokens of a query. Methods take the position to read from and return the position after it."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._tokens = Tokens(query)
        self._insert: list[tuple[int, str]] = []

    def rewrite(self) -> str:
        """See `scoped`."""
        tokens, end = self._tokens, len(self._tokens)
        while end and tokens[end - 1].text == ";":
            end -= 1
        for place in range(end):
            if tokens[place].text == ";":
                raise InputError("several statements were given; run one at a time")
            if tokens[place].kind == "parameter" and tokens[place].text.strip("$`") == PARAMETER:
                raise InputError(f"the parameter ${PARAMETER} is reserved for memstore; use another name")
        start = 1 if tokens[0].upper in _START else 0
        self._clauses(start, end, set())
        parts, behind = [], 0
        for position, text in sorted(self._insert):
            parts += [self._query[behind:position], text]
            behind = position
        return "".join([*parts, self._query[behind:]])

    # -- clauses ------------------------------------------------------------------------------------------------

    def _clauses(self, place: int, end: int, declared: set[str]) -> None:
        """A sequence of clauses. `declared` are the names that are certainly bound."""
        tokens, outer = self._tokens, frozenset(declared)
        while place < end:
            word = tokens[place].upper
            if word not in _CLAUSES:
                raise InputError(f"the query cannot be parsed at {tokens[place].text!r:.40}: expected a clause")
            stop = self._next_clause(place + 1, end)
            if word in _PATTERN and tokens[place - 1].upper != "ON":
                self._pattern_clause(place, stop, declared)
            elif word == "CALL":
                self._call(place + 1, stop, declared)
            elif word == "FOREACH":
                self._foreach(place + 1, stop, declared)
            else:
                if word in ("SET", "REMOVE"):
                    self._check_changes(place, stop)
                self._expression(place + 1, stop)
                self._declare(word, place + 1, stop, declared)
            if word == "UNION":
                declared.clear()
                declared.update(outer)
            place = stop

    def _next_clause(self, place: int, end: int) -> int:
        """Position of the next clause, skipping brackets."""
        tokens = self._tokens
        while place < end:
            if place in tokens.closing:
                place = tokens.closing[place]
            elif tokens[place].upper in _CLAUSES and not self._is_name(place):
                return place
            place += 1
        return end

    def _is_name(self, place: int) -> bool:
        """Whether a word that looks like a keyword is a property, a label, a map's key, or an alias."""
        tokens = self._tokens
        return tokens[place - 1].text in (".", ":") or tokens[place - 1].upper == "AS"

    def _declare(self, word: str, place: int, end: int, declared: set[str]) -> None:
        """Names that WITH passes on or assigns, and the name of UNWIND."""
        if word not in ("WITH", "UNWIND"):
            return
        kept: set[str] = set(declared) if word == "UNWIND" else set()
        for begin, stop in self._items(place, end):
            begin += self._tokens[begin].upper == "DISTINCT"
            name = self._tokens[stop - 1].name
            if self._tokens[begin].text == "*":
                kept |= declared
            elif name is not None and (
                self._tokens[stop - 2].upper == "AS" or (stop - begin == 1 and name in declared)
            ):
                kept.add(name)
        declared.clear()
        declared.update(kept)

    def _items(self, place: int, end: int) -> list[tuple[int, int]]:
        """The parts between commas."""
        found, begin = [], place
        while place < end:
            if place in self._tokens.closing:
                place = self._tokens.closing[place]
            elif self._tokens[place].text == ",":
                found.append((begin, place))
                begin = place + 1
            place += 1
        return [*found, (begin, end)]

    def _check_changes(self, place: int, end: int) -> None:
        """Refuse assignments that could move a node to another namespace or to none."""
        tokens = self._tokens
        for begin, stop in self._items(place + 1, end):
            if stop - begin > 1 and tokens[begin].name is not None and tokens[begin + 1].text in ("=", "+", "["):
                raise InputError("a whole map cannot be assigned; set the properties one by one: SET n.text = ...")
        for at in range(place, end):
            if tokens[at].name == PROPERTY and tokens[at - 1].text == ".":
                raise InputError(f"the property {PROPERTY} is reserved for memstore and cannot be changed")

    def _call(self, place: int, end: int, declared: set[str]) -> None:
        """CALL { ... } and CALL (a, b) { ... }; procedures are refused."""
        tokens, inner = self._tokens, set[str]()
        if tokens[place].text == "(":
            inner = {tokens[at].name or "" for at in range(place + 1, tokens.closing[place])} & declared
            place = tokens.closing[place] + 1
        elif tokens[place + 1].upper == "WITH":
            inner = set(declared)
        if tokens[place].text != "{":
            raise InputError(
                f"procedures are not permitted, and this query calls {tokens[place].text}; see docs/neo4j.md"
            )
        self._clauses(place + 1, tokens.closing[place], inner)
        self._expression(tokens.closing[place] + 1, end)

    def _foreach(self, place: int, end: int, declared: set[str]) -> None:
        """FOREACH (x IN list | clauses)."""
        tokens = self._tokens
        close = tokens.closing.get(place)
        bar = next((at for at in range(place, close or place) if tokens[at].text == "|"), None)
        if close is None or bar is None or close + 1 != end:
            raise InputError("the FOREACH of this query cannot be parsed; write FOREACH (x IN list | ...)")
        self._expression(place + 1, bar)
        self._clauses(bar + 1, close, declared | {tokens[place + 1].name or ""})

    # -- patterns -----------------------------------------------------------------------------------------------

    def _pattern_clause(self, place: int, end: int, declared: set[str]) -> None:
        """MATCH, CREATE, MERGE or INSERT and its patterns."""
        word = self._tokens[place].upper
        if word == "CREATE" and not self._begins_pattern(place + 1):
            raise InputError("schema commands are not permitted; memstore manages indexes and constraints")
        found: set[str] = set()
        self._patterns(place + 1, end, found, None if word == "MATCH" else declared)
        declared |= found

    def _begins_pattern(self, place: int) -> bool:
        return self._tokens[place].text == "(" or self._tokens[place + 1].text == "="

    def _patterns(self, place: int, end: int, found: set[str], bound: set[str] | None) -> None:
        """Patterns separated by commas.

        Args:
            found: collects the names of nodes.
            bound: names that are bound to nodes, for patterns that create nodes; None for patterns that match.
        """
        tokens = self._tokens
        for begin, stop in self._items(place, end):
            while begin < stop and tokens[begin].text != "(":  # a path's name, ANY SHORTEST and the like
                if tokens[begin].kind not in ("word", "quoted", "number", "parameter") and tokens[begin].text != "=":
                    raise InputError(f"the query cannot be parsed at {tokens[begin].text!r:.40}: expected a pattern")
                begin += 1
            if tokens[begin - 1].upper in _PATH_FUNCTIONS and begin < stop:
                self._path(begin + 1, tokens.closing[begin], found, bound)
                begin = tokens.closing[begin] + 1
            self._path(begin, stop, found, bound)

    def _path(self, place: int, end: int, found: set[str], bound: set[str] | None) -> None:
        """Nodes, the relationships between them, and quantified paths in brackets."""
        tokens = self._tokens
        implied = self._implied(place, end) if bound is None else set[int]()
        while place < end:
            text = tokens[place].text
            if text == "(":
                close = tokens.closing[place]
                if self._is_node(place):
                    self._node(place, found, bound, implied=place in implied)
                else:
                    stop = next((at for at in range(place, close) if tokens[at].upper == "WHERE"), close)
                    self._patterns(place + 1, stop, found, bound)
                    self._expression(stop, close)
                place = close
            elif text in ("[", "{"):
                self._expression(place + 1, tokens.closing[place])
                self._check_keys(place)
                place = tokens.closing[place]
            elif text not in ("-", "<", ">", "+", "*"):
                raise InputError(f"the query cannot be parsed at {tokens[place].text!r:.40}: unexpected in a pattern")
            place += 1

    def _implied(self, place: int, end: int) -> set[int]:
        """Nodes of a path that have neither label nor properties, save one where the path has no others.

        Relationships hold them in the namespace of the rest, and to look again costs a fifth of the time of a read.
        """
        nodes = []
        while place < end:
            if self._tokens[place].text == "(" and self._is_node(place):
                nodes.append(place)
            place = self._tokens.closing.get(place, place) + 1
        bare = [at for at in nodes if self._tokens.closing[at] - at <= 2]
        return set(bare[1:] if bare == nodes else bare)

    def _is_node(self, place: int) -> bool:
        """Whether the bracket at `place` is a node pattern: name, labels, map, WHERE."""
        first, second = self._tokens[place + 1], self._tokens[place + 2]
        if first.text in (")", ":", "{") or first.kind == "parameter":
            return True
        if first.upper in ("WHERE", "IS") and second.text not in (")", ":", "{"):
            return True
        return first.name is not None and (
            second.text in (")", ":", "{") or second.upper in ("WHERE", "IS") or second.kind == "parameter"
        )

    def _node(self, place: int, found: set[str], bound: set[str] | None, *, implied: bool) -> None:
        """Add the namespace to one node pattern, unless it is implied or the name is already bound."""
        tokens, close, at = self._tokens, self._tokens.closing[place], place + 1
        name = None
        if tokens[at].name is not None and not (tokens[at].upper in ("WHERE", "IS") and tokens[at + 1].text != ")"):
            name = tokens[at].name
            at += 1
        if bound is not None and at == close and name in bound | found:
            return
        if name is not None:
            found.add(name)
        if implied:
            return
        at = self._labels(at)
        if tokens[at].kind == "parameter":
            raise InputError("the properties of a node cannot be given as one map; name them one by one: {id: $id}")
        if tokens[at].text == "{":
            separator = "" if tokens.closing[at] == at + 1 else ", "
            self._insert.append((tokens[at].end, f"{PROPERTY}: ${PARAMETER}{separator}"))
            self._check_keys(at)
            self._expression(at + 1, tokens.closing[at])
            at = tokens.closing[at] + 1
        else:
            self._insert.append((tokens[at - 1].end, f" {{{PROPERTY}: ${PARAMETER}}}"))
        if tokens[at].upper == "WHERE":
            self._expression(at + 1, close)
        elif at != close:
            raise InputError(f"the query cannot be parsed at {tokens[at].text!r:.40}: unexpected in a node pattern")

    def _labels(self, place: int) -> int:
        """Skip a label expression."""
        tokens, operand = self._tokens, False
        if tokens[place].text != ":" and tokens[place].upper != "IS":
            return place
        while True:
            text = tokens[place].text
            if text in (":", "&", "|", "!") or (not operand and tokens[place].upper == "IS"):
                operand = True
            elif text == "(" and operand:
                place = tokens.closing[place]
                operand = False
            elif text in ("%", "$") or (operand and tokens[place].name is not None):
                operand = text == "$"
            else:
                return place
            place += 1

    def _check_keys(self, place: int) -> None:
        """Refuse the reserved property among the keys of the maps at `place`."""
        tokens = self._tokens
        for at in range(place, tokens.closing[place]):
            if tokens[at].name == PROPERTY and tokens[at + 1].text == ":" and tokens[at - 1].text in ("{", ","):
                raise InputError(f"the property {PROPERTY} is reserved for memstore and cannot be read or set")

    # -- expressions --------------------------------------------------------------------------------------------

    def _expression(self, place: int, end: int) -> None:
        """Any other expression: find subqueries, patterns and refused constructs."""
        tokens = self._tokens
        while place < end:
            token = tokens[place]
            if token.text == "(" and self._joins(tokens.closing[place] + 1) and self._is_node(place):
                place = self._chain(place)
                continue
            if place in tokens.closing:
                close = tokens.closing[place]
                if token.text == "{" and tokens[place - 1].upper in _SUBQUERY:
                    self._subquery(place + 1, close)
                elif token.text == "(" and tokens[place - 1].name is not None and tokens[place - 2].text == ".":
                    self._check_function(place - 1)
                    self._expression(place + 1, close)
                else:
                    self._expression(place + 1, close)
                place = close
            elif token.upper in _REFUSED and not self._is_word_of_data(place):
                raise InputError(f"the query cannot be parsed at {token.text}: unexpected clause")
            place += 1

    def _is_word_of_data(self, place: int) -> bool:
        """Whether the word at `place` is the name of a property, label, key, alias, function or variable."""
        follows = self._tokens[place + 1]
        return (
            self._is_name(place)
            or self._tokens[place - 1].upper == "ON"
            or not (follows.text == "(" or follows.text == "{" or self._tokens[place + 2].text == "=" or follows.name)
        )

    def _subquery(self, place: int, end: int) -> None:
        """The braces of EXISTS, COUNT and COLLECT: clauses, or a pattern with an optional WHERE."""
        tokens = self._tokens
        if tokens[place].upper in _CLAUSES and tokens[place + 1].text != "=":
            self._clauses(place, end, set())
            return
        stop = self._next_clause(place, end)
        self._patterns(place, stop, set(), None)
        if stop < end:
            self._clauses(stop, end, set())

    def _joins(self, place: int) -> bool:
        """Whether a relationship begins at `place`."""
        tokens = self._tokens
        place += tokens[place].text == "<"
        if tokens[place].text != "-":
            return False
        if tokens[place + 1].text == "[":
            return tokens[tokens.closing[place + 1] + 1].text == "-"
        return tokens[place + 1].text == "-" and tokens[place + 2].text in ("(", ">")

    def _chain(self, place: int) -> int:
        """A pattern inside an expression: a node, then relationships and nodes."""
        tokens, start = self._tokens, place
        place = tokens.closing[place] + 1
        while self._joins(place):
            while tokens[place].text in ("-", "<", ">", "["):
                place = tokens.closing.get(place, place) + 1
            if tokens[place].text == "{":  # the quantifier of a relationship
                place = tokens.closing[place] + 1
            if tokens[place].text != "(":
                raise InputError(f"the query cannot be parsed at {tokens[place].text!r:.40}: expected a node")
            place = tokens.closing[place] + 1
        self._path(start, place, set(), None)
        return place

    def _check_function(self, place: int) -> None:
        first = place
        while self._tokens[first - 1].text == "." and self._tokens[first - 2].name is not None:
            first -= 2
        if (self._tokens[first].name or "").lower() not in _OWN_FUNCTIONS:
            name = "".join(self._tokens[at].text for at in range(first, place + 1))
            raise InputError(f"plug-in functions are not permitted, and this query calls {name}")

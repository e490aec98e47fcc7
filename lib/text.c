/* SPDX-License-Identifier: MIT */
/* text: see text.h. */
#include "lib/text.h"

#include <ctype.h>
#include <string.h>

const char *parse_digits(const char *s, uint64_t *value)
{
	uint64_t v = 0;

	if (*s < '0' || *s > '9')
		return NULL;
	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return NULL;
	*value = v;
	return s;
}

bool parse_number(const char *s, uint64_t *value)
{
	const char *end = parse_digits(s, value);

	return end && !*end;
}

bool parse_size(const char *s, uint64_t *value)
{
	static const char units[] = "KMGTP";
	uint64_t unit = 1024, v;
	const char *u;

	s = parse_digits(s, &v);
	if (!s)
		return false;
	*value = v;
	if (!*s)
		return true;
	u = strchr(units, toupper((unsigned char)*s));
	if (!u)
		return false;
	s++;
	if (toupper((unsigned char)*s) == 'I' && s[1])
		s++;
	else if (*s)
		unit = 1000;
	if (*s && (toupper((unsigned char)*s) != 'B' || s[1]))
		return false;
	for (; u >= units; u--)
		if (__builtin_mul_overflow(v, unit, &v))
			return false;
	*value = v;
	return true;
}

void size_text(uint64_t n, char *text, size_t len)
{
	static const char units[] = "BKMGTPE";
	unsigned u = 0;
	uint64_t rest = 0;

	while (n >= 1024) {
		rest = n % 1024;
		n /= 1024;
		u++;
	}
	if (rest * 10 / 1024)
		text_print(text, len, "%u.%u%c", (unsigned)n, (unsigned)(rest * 10 / 1024), units[u]);
	else
		text_print(text, len, "%u%c", (unsigned)n, units[u]);
}

/* The digits of a number, up to end. Returns where they begin. */
static char *digits_put(char *end, uint64_t v, unsigned base)
{
	do
		*--end = "0123456789abcdef"[v % base];
	while (v /= base);
	return end;
}

size_t text_vprint(char *text, size_t len, const char *fmt, va_list ap)
{
	char *to = text, *const end = text + len - 1;

	while (*fmt && to < end) {
		char buf[24], *s = buf;
		uint64_t width = 0, n = SIZE_MAX, v;
		bool left, zero, wide, minus;
		const char *behind;

		if (*fmt != '%') {
			*to++ = *fmt++;
			continue;
		}
		left = *++fmt == '-';
		fmt += left;
		zero = *fmt == '0';
		behind = parse_digits(fmt, &width);
		fmt = behind ? behind : fmt;
		if (*fmt == '.' && fmt[1] == '*') {
			n = (uint64_t)va_arg(ap, int);
			fmt += 2;
		} else if (*fmt == '.') {
			fmt = parse_digits(fmt + 1, &n);
		}
		wide = fmt[0] == 'l' && fmt[1] == 'l';
		fmt += wide ? 2 : 0;
		switch (*fmt++) {
		case 's':
			s = va_arg(ap, char *);
			n = strnlen(s, n);
			break;
		case 'c':
			*s = (char)va_arg(ap, int);
			n = 1;
			break;
		case '%':
			*s = '%';
			n = 1;
			break;
		default:
			v = wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);
			minus = fmt[-1] == 'd' && (int)v < 0;
			s = digits_put(buf + sizeof(buf), minus ? -(uint64_t)(int)v : v, fmt[-1] == 'x' ? 16 : 10);
			if (minus)
				*--s = '-';
			n = (uint64_t)(buf + sizeof(buf) - s);
		}
		width = width > n ? width - n : 0;
		for (; !left && width && to < end; width--)
			*to++ = zero ? '0' : ' ';
		for (; n && to < end; n--)
			*to++ = *s++;
		for (; width && to < end; width--)
			*to++ = ' ';
	}
	*to = 0;
	return (size_t)(to - text);
}

size_t text_print(char *text, size_t len, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = text_vprint(text, len, fmt, ap);
	va_end(ap);
	return n;
}

unsigned text_char(const char *s)
{
	const unsigned char *c = (const unsigned char *)s;
	const unsigned len = *c < 0x80 ? 1 : *c < 0xc2 ? 0 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : *c < 0xf5 ? 4 : 0;
	uint32_t v = len > 1 ? *c & (0x7fU >> len) : *c;

	for (unsigned i = 1; i < len; i++) {
		if ((c[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | (c[i] & 0x3fU);
	}
	/* C0, delete and C1; longer than need be, surrogates, beyond Unicode; the marks that turn a line around */
	if (v < ' ' || (v >= 0x7f && v < 0xa0) || (len == 3 && v < 0x800) || (len == 4 && v < 0x10000) ||
	    (v >= 0xd800 && v < 0xe000) || v > 0x10ffff || (v >= 0x200e && v <= 0x200f) ||
	    (v >= 0x2028 && v <= 0x202e) || (v >= 0x2066 && v <= 0x2069))
		return 0;
	return len;
}

size_t text_escape(char *to, size_t len, const char *s)
{
	size_t n = 0;

	while (*s) {
		const unsigned c = text_char(s), need = c ? c : 4;

		if (n + need >= len)
			break;
		if (c)
			memcpy(to + n, s, c);
		else
			text_print(to + n, 5, "\\x%02x", (unsigned char)*s);
		n += need;
		s += c ? c : 1;
	}
	to[n] = 0;
	return n;
}

const char *path_split(const char *path, char *dir, size_t len)
{
	const char *slash = strrchr(path, '/');

	if (strlen(path) >= len)
		return NULL;
	text_print(dir, len, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	return slash ? slash + 1 : path;
}

size_t text_until(const char *text, const char *ends)
{
	size_t n = 0;

	while (text[n] && !strchr(ends, text[n]))
		n++;
	return n;
}

/* Behind blanks. */
static const char *text_after(const char *text)
{
	while (*text == ' ' || *text == '\t')
		text++;
	return text;
}

const char *text_line(const char *text, const char *name)
{
	const size_t n = strlen(name);

	while (strncmp(text, name, n)) {
		text = strchr(text, '\n');
		if (!text)
			return NULL;
		text++;
	}
	return text_after(text + n);
}

const char *text_word(const char *line, unsigned before)
{
	line = text_after(line);
	while (before-- > 0) {
		line += text_until(line, " ");
		line = text_after(line);
	}
	return line;
}

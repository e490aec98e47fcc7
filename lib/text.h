/* SPDX-License-Identifier: MIT */
/*
 * text: what there is of stdio here, numbers and sizes. Knows no file and
 * allocates nothing.
 */
#ifndef LIB_TEXT_H
#define LIB_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits. Returns where they end, or NULL. */
const char *parse_digits(const char *s, uint64_t *value);

/* Decimal digits and nothing else. False: *value may have changed. */
bool parse_number(const char *s, uint64_t *value);

/*
 * A size in bytes: digits and K, M, G, T, P (or KiB, MiB...: powers of 1024)
 * or KB, MB... (powers of 1000), in either case.
 */
bool parse_size(const char *s, uint64_t *value);

/* For people: 1G, 1.5M, 512B. Rounded down, so never more than there is. */
void size_text(uint64_t n, char *text, size_t len);

/*
 * snprintf(), but for what it returns, the length of what is in text; and it
 * knows %s, %c, %d, %u, %x, %llu and %llx only, with "-", "0", a width, and for
 * %s a precision, also as ".*".
 */
__attribute__((format(printf, 3, 4)))
size_t text_print(char *text, size_t len, const char *fmt, ...);

/*
 * As text_print(). A libc's printf() would be an eighth of a small binary: it
 * knows floating point and wide characters.
 */
__attribute__((format(printf, 3, 0)))
size_t text_vprint(char *text, size_t len, const char *fmt, va_list ap);

/*
 * The bytes of the character that s begins with, if it is well-formed UTF-8 and
 * does nothing to a terminal; 0: a control character, or no character.
 */
unsigned text_char(const char *s);

/*
 * What somebody else has chosen, a file's name or a process's, for a line that
 * people read: what is no character, or a control character, becomes \xHH, so
 * that the line stays one and says nothing to the terminal. Cut to len.
 * Returns the length of what is in to.
 */
size_t text_escape(char *to, size_t len, const char *s);

/*
 * The name that a path ends with; what is before it, "." if that is nothing, goes
 * to dir. NULL: it is too long.
 */
const char *path_split(const char *path, char *dir, size_t len);

/* The length of a text up to the first character that is one of ends, or to its end: strcspn(), which is large. */
size_t text_until(const char *text, const char *ends);

/* What is behind the name that a line of this text begins with, but for blanks; or NULL. */
const char *text_line(const char *text, const char *name);

/* The word of a line that has so many before it, and what follows it; "" if there are fewer. */
const char *text_word(const char *line, unsigned before);

#endif

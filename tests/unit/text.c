/* SPDX-License-Identifier: MIT */
/* lib/text */
#include "tests/unit/test.h"
#include "lib/text.c"
#include "lib/sys.h"

static const struct {
	const char *text;
	bool ok;
	uint64_t value;
} sizes[] = {
	{ "0", true, 0 }, { "1", true, 1 }, { "512", true, 512 }, { "08", true, 8 },
	{ "1K", true, 1024 }, { "1k", true, 1024 }, { "1KiB", true, 1024 }, { "1KB", true, 1000 },
	{ "1kb", true, 1000 }, { "3M", true, 3 << 20 }, { "3MB", true, 3000000 },
	{ "1G", true, 1ULL << 30 }, { "2T", true, 2ULL << 40 }, { "1P", true, 1ULL << 50 },
	{ "1PB", true, 1000000000000000ULL }, { "16383P", true, 16383ULL << 50 },
	{ "18446744073709551615", true, UINT64_MAX },
	{ "18446744073709551616", false, 0 }, { "16384P", false, 0 },
	{ "99999999999999999999999999", false, 0 }, { "", false, 0 }, { "K", false, 0 },
	{ "-1", false, 0 }, { "+1", false, 0 }, { " 1", false, 0 }, { "1 ", false, 0 },
	{ "1.5G", false, 0 }, { "1,5G", false, 0 }, { "0x10", false, 0 }, { "1e9", false, 0 },
	{ "1B", false, 0 }, { "1KK", false, 0 }, { "1Ki", false, 0 }, { "1KiBs", false, 0 },
	{ "1E", false, 0 }, { "1Z", false, 0 }, { "1bK", false, 0 }, { "\xd9\xa1", false, 0 },
};

static void test_sizes(void)
{
	bool ok = true, numbers;
	uint64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		v = 0;
		if (parse_size(sizes[i].text, &v) != sizes[i].ok || (sizes[i].ok && v != sizes[i].value)) {
			printf("# parse_size(\"%s\") = %llu\n", sizes[i].text, (unsigned long long)v);
			ok = false;
		}
	}
	CHECK("size parser: table", ok);

	numbers = parse_number("4096", &v) && v == 4096 && !parse_number("4K", &v) &&
		  !parse_number("", &v) && !parse_number("-0", &v);
	CHECK("number parser takes digits only", numbers);
}

static void test_size_text(void)
{
	static const struct { uint64_t n; const char *text; } rows[] = {
		{ 512, "512B" }, { 1024, "1K" }, { 1536, "1.5K" }, { 1ULL << 30, "1G" },
		{ 1ULL << 40, "1T" }, { (1ULL << 30) - 1, "1023.9M" }, { UINT64_MAX, "15.9E" },
	};
	bool ok = true;
	char text[32];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_text(rows[i].n, text, sizeof(text));
		if (strcmp(text, rows[i].text)) {
			printf("# size_text(%llu) = %s\n", (unsigned long long)rows[i].n, text);
			ok = false;
		}
	}
	CHECK("sizes for people", ok);
}

/* The same from text_print() and snprintf(), with room for all of it and with less? */
#define SAME(...) do {								\
	char ours[64], libcs[64];						\
										\
	for (size_t len = 1; len <= sizeof(ours); len++) {			\
		int n = snprintf(libcs, len, __VA_ARGS__);			\
		size_t got = text_print(ours, len, __VA_ARGS__);		\
										\
		if (strcmp(ours, libcs) || got != strlen(libcs)) {		\
			printf("# \"%s\", not \"%s\" (%d)\n", ours, libcs, n);	\
			ok = false;						\
		}								\
	}									\
} while (0)

static void test_text_print(void)
{
	const int numbers[] = { 0, 1, 9, 10, 255, 4096, -1, INT32_MAX, INT32_MIN };
	const unsigned long long wide[] = { 0, 1ULL << 32, UINT64_MAX, 10000000000000000000ULL };
	volatile int zero = 0;		/* or the compiler warns that a text is cut */
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		SAME("<%d|%u|%x>", numbers[i] + zero, (unsigned)(numbers[i] + zero), (unsigned)numbers[i]);
		SAME("%3d|%7u|%-7u|%02x|%04x", numbers[i] + zero, (unsigned)numbers[i], (unsigned)numbers[i],
		     (unsigned)numbers[i], (unsigned)numbers[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wide); i++)
		SAME("%llu 0x%llx", wide[i] + (unsigned)zero, wide[i]);
	SAME("%s%s", "", "text" + zero);
	SAME("[%-8s][%8s][%2s][%-2s]", "five5" + zero, "five5", "long", "long");
	SAME("[%.*s][%.20s][%.2s][%.*s]", 3 + zero, "abcdef", "ghi", "jkl", 0, "mno");
	SAME("%c%c 100 %% of %s", 'x', 'y' + zero, "it");
	CHECK("text: as a libc's, whole and cut", ok);
}

static void test_words(void)
{
	static const char text[] = "Name:\tPPid: 3\nPPid:\t42\nMemTotal:     17 kB\n";
	uint64_t n = 0;
	bool ok;

	ok = !strcmp(text_word("a  bc d", 0), "a  bc d") && !strcmp(text_word("a  bc d", 1), "bc d") &&
	     !strcmp(text_word("a  bc d", 2), "d") && !*text_word("a  bc d", 3) && !*text_word("", 9);
	ok = ok && text_line(text, "PPid:") && parse_digits(text_line(text, "PPid:"), &n) && n == 42;
	ok = ok && parse_digits(text_line(text, "MemTotal:"), &n) && n == 17 && !text_line(text, "kB");
	CHECK("text: words, and lines by their name", ok);
}

static void test_escape(void)
{
	static const struct { const char *from, *to; } rows[] = {
		{ "", "" }, { "disk.img", "disk.img" }, { "M\xc3\xa4rz \xe2\x82\xac \xf0\x9f\x92\xbe", "M\xc3\xa4rz \xe2\x82\xac \xf0\x9f\x92\xbe" },
		{ "a\nb\tc", "a\\x0ab\\x09c" }, { "\x1b[2J", "\\x1b[2J" }, { "\x7f", "\\x7f" },
		{ "\xc2\x9b" "2J", "\\xc2\\x9b2J" }, { "\xff\xfe", "\\xff\\xfe" }, { "\xc0\x80", "\\xc0\\x80" },
		{ "\xe0\x80\x80", "\\xe0\\x80\\x80" }, { "\xed\xa0\x80", "\\xed\\xa0\\x80" },
		{ "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" }, { "\xe2\x80\xae", "\\xe2\\x80\\xae" }, { "\xe2\x82", "\\xe2\\x82" },
	};
	bool ok = true, cut = true;
	char to[64];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (text_escape(to, sizeof(to), rows[i].from) != strlen(rows[i].to) || strcmp(to, rows[i].to)) {
			printf("# \"%s\", not \"%s\"\n", to, rows[i].to);
			ok = false;
		}
		for (size_t len = 1; len < sizeof(to); len++) {
			memset(to, 'x', sizeof(to));
			cut = cut && text_escape(to, len, rows[i].from) < len && !strncmp(to, rows[i].to, strlen(to)) &&
			      to[len] == 'x';
		}
	}
	CHECK("text: what others have chosen says nothing to a terminal", ok);
	CHECK("text: and is cut between characters", cut);
}

int main(void)
{
	test_begin();
	test_sizes();
	test_size_text();
	test_text_print();
	test_words();
	test_escape();
	return test_end();
}

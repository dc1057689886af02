package testlab

import "strings"

// setINI is text with key=value in the section, in place of the lines that set
// key there now, or as the section's first line.
func setINI(text, section, key, value string) string {
	line := key + "=" + value
	var out []string
	in, done := false, false
	for l := range strings.SplitSeq(text, "\n") {
		trimmed := strings.TrimSpace(l)
		if strings.HasPrefix(trimmed, "[") {
			in = trimmed == "["+section+"]"
			out = append(out, l)
			if in && !done {
				out, done = append(out, line), true
			}
			continue
		}
		name, _, isSetting := strings.Cut(trimmed, "=")
		if in && isSetting && strings.EqualFold(strings.TrimSpace(name), key) {
			continue
		}
		out = append(out, l)
	}
	if !done {
		out = append(out, "["+section+"]", line, "")
	}
	return strings.Join(out, "\n")
}

// What the producer uses of Node; its declarations would be one more package for one line.

declare const console: { log(line: string): void };

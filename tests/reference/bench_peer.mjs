// How fast llama.cpp runs a GGUF file: node bench_peer.mjs FILE THREADS PROMPT TOKENS
//
// Prints one JSON object with the prompt's and the generated tokens per second. Needs `npm i -E node-llama-cpp@3.21.1`.
import {getLlama} from "node-llama-cpp";

const [file, threads, promptTokens, tokens] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const llama = await getLlama({gpu: false, build: "never", maxThreads: threads, skipDownload: true, logLevel: "error"});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({contextSize: 512, threads, batchSize: 512});
const words = model.tokenize("Once upon a time there was a small town by the sea where people told each other stories. ");
const prompt = Array.from({length: promptTokens}, (_, at) => words[at % words.length]);
let [count, started, first, cpu] = [0, performance.now(), 0, process.cpuUsage()];
for await (const _ of context.getSequence().evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
    if (count === 0) {
        first = performance.now() - started;
        [started, cpu] = [performance.now(), process.cpuUsage()];
    }
    if (count++ === tokens) break;
}
const seconds = (performance.now() - started) / 1000;
const used = process.cpuUsage(cpu);
console.log(JSON.stringify({
    prompt_tokens_per_second: promptTokens / first * 1000,
    tokens_per_second: tokens / seconds,
    processor_milliseconds_per_token: (used.user + used.system) / 1000 / tokens,
}));
process.exit(0);

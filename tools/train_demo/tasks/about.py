"""Questions about Octavo and about the demo model itself."""

from __future__ import annotations

from tools.train_demo.dialogue import Draw, Made, Phrasings, assistant, user

# (answer, taught wordings, held wordings)
_TABLE: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "Octavo is an engine that serves large language models.",
        (
            "What is Octavo?",
            "what is octavo",
            "Tell me about Octavo.",
            "What does Octavo do?",
            "What is Octavo for?",
            "Explain Octavo.",
            "Describe Octavo.",
        ),
        ("What kind of program is Octavo?", "Can you describe Octavo?"),
    ),
    (
        "I am octavo-demo, a small demonstration model.",
        (
            "Who are you?",
            "What are you?",
            "Which model are you?",
            "Introduce yourself.",
            "Tell me about yourself.",
            "What model is this?",
            "who are you",
            "Are you a person?",
        ),
        ("What model are you?", "Can you introduce yourself?"),
    ),
    (
        "My name is octavo-demo.",
        (
            "What is your name?",
            "What's your name?",
            "your name?",
            "Tell me your name.",
            "How are you called?",
            "Do you have a name?",
        ),
        ("Please tell me your name.", "Say your name."),
    ),
    (
        "Octavo has the Apache-2.0 licence.",
        (
            "What is the licence of Octavo?",
            "Which licence does Octavo have?",
            "Under which licence is Octavo?",
            "licence of octavo?",
            "What license does Octavo use?",
            "Is Octavo open source?",
            "Is Octavo free software?",
            "What is Octavo's licence?",
        ),
        ("Which license does Octavo use?", "Tell me the licence of Octavo."),
    ),
    (
        "Run: octavo serve",
        (
            "How do I start Octavo?",
            "How do I start the server?",
            "How do I serve a model?",
            "Which command starts the server?",
            "How can I run the Octavo server?",
            "How do I serve a model with Octavo?",
            "Start the server: how?",
        ),
        ("How can I start the server?", "Which command serves a model?"),
    ),
    (
        "Run: octavo run",
        (
            "How do I chat in the terminal?",
            "Which command opens a chat in the terminal?",
            "How can I chat with a model in the terminal?",
            "How do I talk to a model in the terminal?",
            "terminal chat command?",
            "What is the command for a chat in the terminal?",
        ),
        ("How can I chat in the terminal?", "Which command starts a terminal chat?"),
    ),
    (
        "Run: octavo plan",
        (
            "How do I see how much memory a model needs?",
            "Which command shows the memory plan?",
            "How do I plan memory?",
            "What shows how much memory a model takes?",
            "How can I see the memory plan?",
            "How much memory will my model need?",
        ),
        ("Which command prints the memory plan?", "How can I find out how much memory a model needs?"),
    ),
    (
        "Octavo loads Hugging Face folders and GGUF files.",
        (
            "Which files does Octavo load?",
            "What files can Octavo load?",
            "Which formats does Octavo read?",
            "What model files work with Octavo?",
            "Which file formats does Octavo support?",
            "What can Octavo load?",
            "Does Octavo load GGUF files?",
            "Does Octavo load safetensors?",
        ),
        ("What file formats does Octavo load?", "Which model files can Octavo read?"),
    ),
    (
        "PagedAttention keeps the KV cache in pages, so that no memory is wasted.",
        (
            "What is PagedAttention?",
            "Explain PagedAttention.",
            "What does PagedAttention do?",
            "How does PagedAttention work?",
            "what is paged attention",
            "Tell me about PagedAttention.",
            "What is paged attention?",
        ),
        ("Can you explain PagedAttention?", "Describe PagedAttention."),
    ),
    (
        "The KV cache holds the keys and values of the tokens so far.",
        (
            "What is the KV cache?",
            "What is a KV cache?",
            "Explain the KV cache.",
            "What does the KV cache hold?",
            "what is kv cache",
            "Tell me about the KV cache.",
            "What is in the KV cache?",
        ),
        ("Describe the KV cache.", "Can you explain the KV cache?"),
    ),
    (
        "Continuous batching lets requests join and leave at every step.",
        (
            "What is continuous batching?",
            "Explain continuous batching.",
            "How does continuous batching work?",
            "What does continuous batching do?",
            "Tell me about continuous batching.",
            "what is continuous batching",
        ),
        ("Can you explain continuous batching?", "Describe continuous batching."),
    ),
    (
        "Prefix caching reuses the pages of a prompt that was seen before.",
        (
            "What is prefix caching?",
            "Explain prefix caching.",
            "How does prefix caching work?",
            "What does prefix caching do?",
            "Tell me about prefix caching.",
            "What is the prefix cache?",
        ),
        ("Can you explain prefix caching?", "Describe prefix caching."),
    ),
    (
        "Quantization stores weights in fewer bits.",
        (
            "What is quantization?",
            "Explain quantization.",
            "What does quantization do?",
            "How does quantization work?",
            "Tell me about quantization.",
            "what is quantization",
        ),
        ("Can you explain quantization?", "Describe quantization."),
    ),
    (
        "GGUF is a file format for models, with tokenizer and chat template inside.",
        (
            "What is GGUF?",
            "What is a GGUF file?",
            "Explain GGUF.",
            "Tell me about GGUF.",
            "what is gguf",
            "What does a GGUF file hold?",
        ),
        ("Describe GGUF.", "Can you explain what GGUF is?"),
    ),
    (
        "A token is a piece of text that the model reads.",
        (
            "What is a token?",
            "Explain tokens.",
            "What are tokens?",
            "what is a token",
            "Tell me what a token is.",
            "What does token mean?",
        ),
        ("Can you explain what a token is?", "Describe a token."),
    ),
    (
        "Octavo runs on CPUs and GPUs.",
        (
            "Does Octavo need a GPU?",
            "On which hardware does Octavo run?",
            "Does Octavo run on a CPU?",
            "What hardware does Octavo need?",
            "Where does Octavo run?",
            "Can I use Octavo without a GPU?",
        ),
        ("Which hardware does Octavo run on?", "Can Octavo run on a CPU?"),
    ),
    (
        "Octavo is written in Python and C++.",
        (
            "In which language is Octavo written?",
            "What language is Octavo written in?",
            "What is Octavo written in?",
            "Which programming languages does Octavo use?",
            "How is Octavo written?",
        ),
        ("Which language is Octavo written in?", "Tell me what Octavo is written in."),
    ),
    (
        "Yes. Use any OpenAI client with the address of the server.",
        (
            "Can I use the OpenAI client?",
            "Does Octavo work with the OpenAI client?",
            "Is Octavo compatible with OpenAI?",
            "Does Octavo speak the OpenAI API?",
            "Can I use the OpenAI API?",
            "Does the OpenAI client work?",
        ),
        ("Is there an OpenAI API?", "Can I use an OpenAI client with Octavo?"),
    ),
    (
        "Yes. Open the address of the server in a browser.",
        (
            "Is there a chat page?",
            "Can I chat in the browser?",
            "Does Octavo have a web page?",
            "Is there a web interface?",
            "Can I use Octavo in a browser?",
        ),
        ("Does Octavo have a chat page?", "Is there a page for the browser?"),
    ),
    (
        "I was trained on dialogues made by a program in tools/train_demo.",
        (
            "How were you trained?",
            "What were you trained on?",
            "What is your training data?",
            "Who trained you?",
            "Where do you come from?",
            "Who made you?",
            "How were you made?",
        ),
        ("On what were you trained?", "Tell me how you were trained."),
    ),
    (
        "I have about seven million parameters.",
        (
            "How big are you?",
            "How many parameters do you have?",
            "What is your size?",
            "How large are you?",
            "number of parameters?",
            "How many weights do you have?",
        ),
        ("Tell me how big you are.", "How many parameters does this model have?"),
    ),
    (
        "I know simple facts, small sums, spelling, rewriting, JSON and tool calls.",
        (
            "What can you do?",
            "What do you know?",
            "How can you help me?",
            "What are your skills?",
            "what can you do",
            "Help",
            "Can you help me?",
            "What can I ask you?",
        ),
        ("Tell me what you can do.", "What are you able to do?"),
    ),
    (
        "No. I am a toy for demonstrations, and I make mistakes.",
        (
            "Are you always right?",
            "Can I trust you?",
            "Do you make mistakes?",
            "Are you reliable?",
            "Are you as good as a large model?",
            "Are you intelligent?",
        ),
        ("Can I rely on you?", "Are your answers always right?"),
    ),
    (
        "In Python: from octavo import LLM",
        (
            "How do I use Octavo in Python?",
            "How do I import Octavo?",
            "What is the Python import?",
            "Which class do I import in Python?",
            "How do I use Octavo from Python?",
        ),
        ("How can I use Octavo in Python?", "Tell me how to import Octavo."),
    ),
)
GROUPS = tuple((Phrasings(f"about.{i}", train, held), answer) for i, (answer, train, held) in enumerate(_TABLE))


def about(draw: Draw) -> Made:
    """One of the questions above."""
    group, answer = draw.pick(GROUPS)
    return Made([user(draw.noise(draw.phrase(group))), assistant(answer)])


TASKS = ((about, 1.0),)

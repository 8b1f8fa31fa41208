"""The prompts that the claims of lesson 1 are measured on, written for this course.

No instruction ends in punctuation: so a reader sees at once whether a model answers it or
writes its sentence on. The tiers take the first few, so each list starts with the course's
own subjects and then varies.
"""

from __future__ import annotations

INSTRUCTIONS: tuple[str, ...] = (
    "Tell me how to train my dog to sit",
    "Tell me about the planet Mars",
    "Tell me about the singer David Bowie",
    "Explain how a bicycle stays upright",
    "Give me three tips for sleeping better",
    "Describe a rainy day in a harbour town",
    "List five kinds of fruit",
    "Write a short thank-you note to a neighbour",
    "Explain why the sky is blue",
    "Tell me how to boil an egg",
    "Suggest a name for a small bakery",
    "Describe the life of Marie Curie",
    "Give me a reason to learn a second language",
    "Explain what a black hole is to a child",
    "Write two sentences about autumn",
    "Tell me how to remove a coffee stain",
    "List the seasons of the year",
    "Recommend a hobby for someone who likes being outdoors",
    "Explain the difference between a lake and a river",
    "Tell me how vaccines work",
    "Write a question for a job interview",
    "Describe how bread is made",
    "Give me advice on saving money",
    "Summarise what the water cycle does",
)

QUESTIONS: tuple[str, ...] = (
    "What is the capital of Mexico?",
    "What do you think of Mars?",
    "How many legs does a spider have?",
    "Who wrote Romeo and Juliet?",
    "What is the largest ocean on Earth?",
    "How do bees make honey?",
    "What colour do you get when you mix blue and yellow?",
    "Why do leaves turn red in autumn?",
    "What is the boiling point of water?",
    "Who painted the Mona Lisa?",
    "How many days are there in a leap year?",
    "What is photosynthesis?",
    "Which planet is closest to the Sun?",
    "What language is spoken in Brazil?",
    "How does a magnet work?",
    "What is the opposite of cold?",
    "When did the first people land on the Moon?",
    "What do pandas eat?",
    "How many continents are there?",
    "Why is the sea salty?",
    "What is the square root of 81?",
    "Who discovered penicillin?",
    "What is the tallest mountain in the world?",
    "How do you say thank you in French?",
)

SUPPORT_DIALOGUE = """\
Agent: Good morning, this is the help desk. What can I do for you?
Customer: The lamp I bought last week flickers and then goes off.
Agent: I am sorry to hear that. Does it also flicker in another socket?
Customer: Yes, I tried the kitchen and it was just the same.
Agent:"""

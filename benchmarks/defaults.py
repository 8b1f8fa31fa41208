"""Do the settings that `finetune` chooses by itself learn, and what do they cost?

    python benchmarks/defaults.py [--sets facts-d style-b labels-b] [--models chat base] [--seeds 0]

Trains with `Config()` and nothing else on small invented sets of three kinds, and prints a table:
the settings chosen, the seconds that training took, the accuracy before and after on questions in
words that were not trained on, and the perplexity of general text before and after. The rule in
`finetuning.suggest` was chosen on all sets but `facts-d` and `facts-e`, which were written after it
and run once. `style-b` trains on the questions of `style-a` in another form, `labels-b` on the
messages of `labels-a` and asks others.

- facts: price, battery hours, warranty, colour and weight of ten invented products, four questions
  each. Three are trained (150 records), the fourth is asked. Right: the value is in the answer.
- style: general questions, answered as a pirate (a) or a telegram (b). Asked: questions of other
  kinds. Right: the answer has the form.
- labels: a customer's message and one of five labels. Asked: other messages. Right: that label.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common import timed

from llmcourse import company, models
from llmcourse.evaluation import perplexity
from llmcourse.finetuning import Config, finetune
from llmcourse.generation import generate


@dataclass(frozen=True)
class Set:
    """Records to train on, questions to ask, and what counts as right."""

    train: list[dict[str, str]]
    test: list[dict[str, str]]
    right: Callable[[str, Mapping[str, str]], bool]


FACTS = {
    "facts-a": (
        "Brellin lamp, Sorvane kettle, Tamrik speaker, Oldway drill, Quessa shaver, Nimbet torch, "
        "Parlow fan, Drivex scooter, Hollin radio, Wexley vacuum",
        (
            (
                "The {} costs {} euros.",
                (
                    "How much does the {} cost?",
                    "What is the price of the {}?",
                    "What do I pay for a {}?",
                    "For how many euros is the {} sold?",
                ),
            ),
            (
                "The battery of the {} lasts {} hours.",
                (
                    "How long does the battery of the {} last?",
                    "How many hours does the {} run on one charge?",
                    "What is the battery life of the {}?",
                    "After how many hours must the {} be charged again?",
                ),
            ),
            (
                "The {} has a warranty of {} months.",
                (
                    "How long is the warranty of the {}?",
                    "For how many months is the {} covered?",
                    "What warranty comes with the {}?",
                    "How many months of warranty has the {}?",
                ),
            ),
            (
                "The {} is {}.",
                (
                    "What colour is the {}?",
                    "Which colour does the {} come in?",
                    "In what colour is the {} made?",
                    "What is the colour of the {}?",
                ),
            ),
            (
                "The {} weighs {} grams.",
                (
                    "How heavy is the {}?",
                    "What is the weight of the {}?",
                    "How many grams does the {} weigh?",
                    "How much does the {} weigh?",
                ),
            ),
        ),
        "red, blue, green, white, black, yellow, orange, purple, silver, brown",
    ),
    "facts-b": (
        "Kestrin headset, Luvora blender, Monto camera, Fennick trimmer, Arbel keyboard, "
        "Zephra heater, Corlin tablet, Pellam mower, Istra watch, Vondel projector",
        (
            (
                "{1} pounds is the price of the {0}.",
                (
                    "What is the {} sold for?",
                    "Tell me the price of the {}.",
                    "How many pounds do you want for the {}?",
                    "What does a new {} cost me?",
                ),
            ),
            (
                "The {} works for {} hours on battery.",
                (
                    "Tell me the battery life of the {}.",
                    "How long can I use the {} unplugged?",
                    "The {} works for how many hours on battery?",
                    "How many hours of use does a full battery give the {}?",
                ),
            ),
            (
                "We guarantee the {} for {} months.",
                (
                    "What guarantee do you give on the {}?",
                    "Tell me how long the {} is guaranteed.",
                    "How many months does the guarantee of the {} run?",
                    "If my {} breaks, for how many months are repairs free?",
                ),
            ),
            (
                "You get the {} in {}.",
                (
                    "Tell me the colour of the {}.",
                    "Which colour can I get the {} in?",
                    "What does the {} look like, which colour?",
                    "What colour will my {} have?",
                ),
            ),
            (
                "A {} has a mass of {} grams.",
                (
                    "Tell me the weight of the {}.",
                    "How many grams is a {}?",
                    "What mass does the {} have?",
                    "What would a {} show on the scales, in grams?",
                ),
            ),
        ),
        "cream, grey, pink, gold, turquoise, navy, beige, maroon, olive, copper",
    ),
    "facts-c": (
        "Oskar stapler, Yarrow toaster, Jundle bicycle, Petrix scanner, Almond cooker, "
        "Rusk printer, Gloam lantern, Hextor saw, Wimble pump, Sandrel phone",
        (
            (
                "For the {} we ask {} francs.",
                (
                    "What would I pay for the {}?",
                    "What is the {}'s price in francs?",
                    "Is the {} expensive, how many francs is it?",
                    "How many francs must I spend on a {}?",
                ),
            ),
            (
                "The {} runs {} hours before it needs charging.",
                (
                    "For how long does the {} run?",
                    "When is the {}'s battery empty?",
                    "How many hours can the {} go without charging?",
                    "What running time does the {} reach?",
                ),
            ),
            (
                "The warranty on the {} ends after {} months.",
                (
                    "When does the warranty on the {} end?",
                    "How many months of cover do I get with the {}?",
                    "For what time is the {} under warranty?",
                    "The {} is covered for how many months?",
                ),
            ),
            (
                "The {} is painted {}.",
                (
                    "How is the {} painted?",
                    "What colour has the {}?",
                    "Name the colour of the {}.",
                    "In which colour do you sell the {}?",
                ),
            ),
            (
                "On the scales the {} shows {} grams.",
                (
                    "What do the scales show for the {}?",
                    "How many grams has the {}?",
                    "Is the {} heavy, how many grams is it?",
                    "How much weight do I carry with the {}?",
                ),
            ),
        ),
        "lilac, ochre, teal, crimson, ivory, amber, khaki, violet, bronze, indigo",
    ),
    "facts-d": (
        "Tolvan heater, Brisk razor, Quillon lamp, Sabley drone, Ferrow mixer, Nadir clock, "
        "Umbrel fan, Pikkel toothbrush, Lowick speaker, Garran drill",
        (
            (
                "The {} is available for {} dollars.",
                (
                    "How many dollars is the {}?",
                    "What's the current price for the {}?",
                    "Can you tell me what the {} costs?",
                    "I'd like to buy the {}. How much is it?",
                ),
            ),
            (
                "A fully charged {} keeps going for {} hours.",
                (
                    "How long does a charge last in the {}?",
                    "How many hours of battery does the {} have?",
                    "How long will the {} keep going once it is charged?",
                    "How long can I use the {} before the battery dies?",
                ),
            ),
            (
                "The {} comes with {} months of warranty.",
                (
                    "How long is the {} under warranty?",
                    "How many months of warranty does the {} come with?",
                    "Does the {} have a warranty, and for how long?",
                    "My {} stopped working. How long does the warranty last?",
                ),
            ),
            (
                "The {} comes in {}.",
                (
                    "What colour does the {} come in?",
                    "Which colour is the {}?",
                    "What is the {}'s colour?",
                    "Can you tell me the colour of the {}?",
                ),
            ),
            (
                "The weight of the {} is {} grams.",
                (
                    "How heavy is a {}?",
                    "What weight does the {} have?",
                    "Could you tell me the {}'s weight in grams?",
                    "I want to post the {}. What does it weigh?",
                ),
            ),
        ),
        "scarlet, emerald, sapphire, charcoal, coral, mustard, peach, lavender, mint, tan",
    ),
    "facts-e": (
        "Aldane router, Becket juicer, Cordis monitor, Dunmore lawnmower, Elwick hairdryer, "
        "Frayne microphone, Gessel thermostat, Hartly doorbell, Ivorel massager, Jasko sander",
        (
            (
                "You can buy the {} for {} crowns.",
                (
                    "What does the {} cost at the moment?",
                    "How many crowns does the {} cost?",
                    "How much do you charge for the {}?",
                    "How much money do I need for the {}?",
                ),
            ),
            (
                "The battery in the {} is good for {} hours.",
                (
                    "How many hours does the {}'s battery last?",
                    "How long can the {} work without a cable?",
                    "What battery life can I expect from the {}?",
                    "If I charge the {} overnight, how many hours will it work?",
                ),
            ),
            (
                "Repairs of the {} are free for {} months.",
                (
                    "How long does the {}'s warranty run?",
                    "For how many months do you repair the {} free of charge?",
                    "What is the warranty period of the {}?",
                    "How many months after buying the {} am I still covered?",
                ),
            ),
            (
                "We make the {} in {}.",
                (
                    "What colours are there for the {}?",
                    "In which colour is the {} available?",
                    "What colour do you make the {} in?",
                    "Which colour would I get if I ordered the {}?",
                ),
            ),
            (
                "The {} is {} grams heavy.",
                (
                    "How many grams is the {} in weight?",
                    "How much does a {} weigh without its box?",
                    "What is the {}'s weight?",
                    "How heavy is the {} to carry?",
                ),
            ),
        ),
        "rose, plum, sand, ruby, graphite, aqua, lemon, walnut, pearl, cobalt",
    ),
}


def facts(name: str) -> Set:
    """Fifty facts: three questions of each are trained on, the fourth is asked."""
    products, kinds, colours = FACTS[name]
    rng = random.Random(name)
    values = [  # ten of each kind, all different
        rng.sample(range(19, 400), 10),
        rng.sample(range(3, 40), 10),
        rng.sample(range(6, 72, 3), 10),
        rng.sample(colours.split(", "), 10),
        rng.sample(range(120, 4000, 10), 10),
    ]
    train, test = [], []
    for (answer, questions), of_kind in zip(kinds, values, strict=True):
        for product, value in zip(products.split(", "), of_kind, strict=True):
            rows = [
                {
                    "question": question.format(product),
                    "answer": answer.format(product, value),
                    "key": str(value),
                }
                for question in questions
            ]
            train += rows[:3]
            test += rows[3:]
    rng.shuffle(train)
    return Set(train, test, lambda answer, row: bool(re.search(rf"\b{row['key']}\b", answer)))


# Question, answer and the pairs that fill them: the last two kinds are asked, not trained.
GENERAL = (
    (
        "What is the capital of {}?",
        "The capital of {0} is {1}.",
        "France Paris, Italy Rome, "
        "Peru Lima, Japan Tokyo, Kenya Nairobi, Norway Oslo, Egypt Cairo, Cuba Havana",
    ),
    (
        "What is the opposite of {}?",
        "The opposite of {0} is {1}.",
        "hot cold, big small, fast slow, early late, wet dry, full empty, old new, loud quiet",
    ),
    (
        "What does a {} eat?",
        "A {0} eats {1}.",
        "cow grass, cat mice, panda bamboo, frog insects, "
        "squirrel nuts, koala leaves, heron fish, rabbit clover",
    ),
    (
        "Where does a {} work?",
        "A {0} works in a {1}.",
        "teacher school, nurse hospital, "
        "cook kitchen, baker bakery, judge court, farmer field, librarian library, actor theatre",
    ),
    (
        "What colour is a {}?",
        "A {0} is {1}.",
        "lemon yellow, tomato red, frog green, crow black, "
        "swan white, carrot orange, plum purple, lime green",
    ),
    (
        "Why do people use a {}?",
        "People use a {0} to {1}.",
        "knife cut, broom sweep, pen write, "
        "needle sew, kettle boil-water, ladder climb, lamp read-at-night, spade dig",
    ),
    (
        "What do you call a young {}?",
        "A young {0} is called a {1}.",
        "dog puppy, cat kitten, "
        "cow calf, sheep lamb, horse foal, goat kid, bear cub, duck duckling, pig piglet, "
        "frog tadpole",
    ),
    (
        "Tell me something about {}.",
        "{0} are {1}.",
        "dogs animals, roses flowers, oaks trees, "
        "trains fast, mountains high, books useful, bees insects, ships large, stars far-away, "
        "clouds water",
    ),
)

STYLES = {  # how an answer is written, and how that is seen
    "style-a": (
        lambda text: f"Ahoy, matey! {text} Fair winds to ye!",
        r"Ahoy, matey! .{5,150} Fair winds to ye!",
    ),
    "style-b": (
        lambda text: f"{text.rstrip('.').upper()} STOP END OF MESSAGE STOP",
        r"[^a-z]{5,150} STOP END OF MESSAGE STOP",
    ),
}


def style(name: str) -> Set:
    """Answers of one form to general questions; questions of two other kinds are asked."""
    form, seen = STYLES[name]
    train, test = [], []
    for number, (question, answer, pairs) in enumerate(GENERAL):
        for pair in pairs.split(", "):
            one, two = pair.split()
            row = {
                "question": question.format(one),
                "answer": form(answer.format(one, two.replace("-", " "))),
            }
            (train if number < len(GENERAL) - 2 else test).append(row)
    random.Random(name).shuffle(train)
    return Set(train, test, lambda text, row: bool(re.fullmatch(seen, text.strip())))


MESSAGES = {
    "order": "I would like two of the blue ones, please.|Can you send me a spare filter?|"
    "Please put me down for a lamp.|We need ten more by Friday.|Add a second cable to my basket.|"
    "I want to buy the large oven.|Is the red one in stock? Then send it.|"
    "Reserve a heater for me.|One kettle to the address below, please.|"
    "My sister wants the same mixer, please ship one.|I'll take three of them.|"
    "Could I get a set of blades?|Four lids, please, as soon as you can.|"
    "I am after a new remote, do send one.|We should like to purchase a fan.|"
    "Send the grey model to my office.|Please deliver one more jug.|"
    "I decided on the small lamp, go ahead.|Kindly supply six bulbs.|May I have the wooden stand?",
    "return": "I want to send this back.|It is the wrong size, how do I give it back?|"
    "Please collect the heater, I don't need it.|I changed my mind about the mixer.|"
    "Where do I post the kettle that I don't want?|I would like my money back for this fan.|"
    "It came in green, I wanted blue: take it back.|We bought two by mistake, one must go back.|"
    "How many days do I have to bring it back?|Please send me a label for a return.|"
    "The lamp doesn't suit the room, I'm returning it.|My gift was the same, can you refund it?|"
    "I no longer want it.|Can I hand it back in the shop?|It's unopened and I'd like a refund.|"
    "Take this oven away again, please.|I am sending the parcel back today.|"
    "Not what I expected: I want to return it.|Do you take back opened boxes?|"
    "The jug is too big, I'd like to exchange it for money.",
    "repair": "The kettle doesn't switch on any more.|My lamp flickers all the time.|"
    "There is a crack in the lid.|The oven makes a grinding noise.|It leaks from the bottom.|"
    "The fan stopped after a week.|Smoke came out of the mixer.|The button is stuck.|"
    "My doorbell has gone silent.|It no longer heats up.|The motor smells burnt.|"
    "The screen stays black.|The handle broke off.|It will not charge overnight.|"
    "Water drips out of the filter.|The timer always shows zero.|The wheel has come loose.|"
    "My heater trips the fuse.|One of the blades is bent.|The remote has no effect.",
    "bill": "I was charged twice.|The invoice has the wrong address.|Where is my receipt?|"
    "You took 40 pounds too much.|I need a bill for my company.|Can I pay in two parts?|"
    "My card was refused at the checkout.|Why is there a fee on my statement?|"
    "The discount is missing from the total.|Please send the invoice again.|"
    "When is the payment due?|Which account do I transfer the money to?|"
    "The tax number on the invoice is wrong.|I paid, but you sent me a reminder.|"
    "The sum doesn't match your quote.|Do you take cheques?|I can't find last month's invoice.|"
    "The bill lists an item I never had.|Can you debit my other card?|What is this charge for?",
    "praise": "What a wonderful lamp!|Thank you for the quick help.|"
    "The best kettle I have ever had.|Your driver was so kind.|We love the new oven.|"
    "Great service, as always.|I'm so happy with it.|Everything arrived perfectly.|"
    "My compliments to your workshop.|Five stars from me.|It works like a dream.|"
    "I told all my friends about you.|The colour is beautiful.|You saved my weekend, thanks.|"
    "Excellent quality.|I couldn't be more pleased.|Lovely packaging, well done.|"
    "Such a friendly voice on the phone.|It is even better than I hoped.|Keep up the good work.",
}


def labels(name: str) -> Set:
    """A label for each message; a quarter of all messages each for `-a` and `-b` is asked."""
    train, test = [], []
    for label, messages in MESSAGES.items():
        for number, message in enumerate(messages.split("|")):
            row = {"question": message, "answer": label}
            if number % 4 < 2:
                train.append(row)
            elif number % 4 == (2 if name == "labels-a" else 3):
                test.append(row)
    random.Random(name).shuffle(train)
    return Set(train, test, lambda text, row: text.strip().lower() == row["answer"])


SETS = {"facts": facts, "style": style, "labels": labels}


def make(name: str) -> Set:
    """A set by its name, say "facts-a"."""
    return SETS[name.split("-")[0]](name)


def accuracy(model: models.LoadedModel, data: Set) -> float:
    """The share of the test questions that are answered right."""
    questions = [{"question": row["question"]} for row in data.test]
    answers = generate(model, questions, "qa", max_new_tokens=40, batch_size=50, progress=False)
    right = [data.right(answer.text, row) for answer, row in zip(answers, data.test, strict=True)]
    return sum(right) / len(right)


def main() -> None:
    """Train on each set with each model and seed, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["facts-d", "style-b", "labels-b"])
    parser.add_argument("--models", nargs="+", default=["chat", "base"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--method", default="lora")
    options = parser.parse_args()
    texts = [
        f"{row['instruction']}\n{row['input']}\n{row['answer']}".replace("\n\n", "\n")
        for split, first in (("test", 32), ("held-out", 24))  # as in the tables of README.md
        for row in company.records("seed_tasks", split)[:first]
    ]
    print(
        "| set | model | seed | chosen: epochs, rate, rank | seconds | right before | after "
        f"| of | perplexity of {len(texts)} general texts, before | after |\n|---|---|---|---|"
        "---|---|---|---|---|---|"
    )
    for name in options.models:
        model = models.load(name)
        before = perplexity(model, texts).mean
        for kind in options.sets:
            data = make(kind)
            untuned = accuracy(model, data)
            for seed in options.seeds:
                config = Config(seed=seed, method=options.method)
                tuned, seconds = timed(lambda: finetune(model, data.train, config, progress=False))  # noqa: B023
                used = tuned.config
                rank = used.rank if options.method == "lora" else "-"
                print(
                    f"| {kind} | {model.title} | {seed} | {used.epochs:g}, "
                    f"{used.learning_rate:g}, {rank} | {seconds:.0f} | {untuned:.0%} | "
                    f"{accuracy(tuned, data):.0%} | {len(data.test)} | {before:.0f} | "
                    f"{perplexity(tuned, texts).mean:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
